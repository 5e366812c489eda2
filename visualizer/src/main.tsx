import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { App } from './app.tsx';
import { start } from './session.ts';
import '@xyflow/react/dist/base.css';
import './styles/colours.css';
import './styles/base.css';
import './styles/chart.css';
import './styles/pages.css';
import './styles/board.css';

void start();
createRoot(document.getElementById('root')!).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
