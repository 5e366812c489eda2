import { expect, it } from 'vitest';
import { asLines, projectFiles } from './files.ts';
import { findBuiltSql } from './sql-check.ts';

const check = (text: string) => asLines(findBuiltSql({ path: 'x.ts', text }));

it('values reach Postgres as parameters only', () => {
  expect(asLines(projectFiles('.ts').flatMap(findBuiltSql))).toEqual([]);
});

it('the check finds a value in the text of a query, however it gets there', () => {
  expect(check("await client.query(`select * from users where name = '${name}'`);")).toHaveLength(1);
  expect(check('const text = `\n  update users set name = ${user.name} where id = $1`;')).toHaveLength(1);
  expect(check(`await client.query('delete from users where id = ' + id);`)).toHaveLength(1);
  expect(check(`const text = 'select * from ' + table + ' where id = $1';`)).toHaveLength(1);
  expect(check('await client.query({ text: `notify ${channel}` });')).toHaveLength(1);
  expect(check('await tx.query(`${text} limit 1`);')).toHaveLength(1);
  expect(check('const text = `insert into ${TABLE} (a) values (${value})`;')).toHaveLength(1);
});

it('the check lets constants, quoted identifiers and sentences pass', () => {
  expect(check('await client.query(`select ${COLUMNS} from ${TABLES.users} where id = $1`, [id]);')).toEqual([]);
  expect(check('await client.query(`drop database ${pg.escapeIdentifier(name)} with (force)`);')).toEqual([]);
  expect(check(`await client.query('select 1 where a = $1 ' + 'and b = $2', [a, b]);`)).toEqual([]);
  expect(check('await client.query(`select lock($1)`, [`notify ${queue}`]);')).toEqual([]);
  expect(check('throw new Error(`with ${count} servers you select too many`);')).toEqual([]);
  expect(check('log(`select a type for ${user}`);')).toEqual([]);
});
