// Which page is open, in the part of the address behind the #.
import { createStore, useStore } from './store.ts';

export interface Route {
  page: string;
  id: string | null;
}

function read(): Route {
  const [page = '', id] = location.hash.replace(/^#\/?/, '').split('/');
  return { page: page === '' ? 'board' : page, id: id === undefined || id === '' ? null : decodeURIComponent(id) };
}

const route = createStore<Route>(read());
addEventListener('hashchange', () => route.set(read()));

export const useRoute = (): Route => useStore(route);
export const linkTo = (page: string, id?: string): string => `#/${page}${id === undefined ? '' : `/${encodeURIComponent(id)}`}`;
