-- A job for `memopt compare`: a small order book in memory, as an application
-- that embeds SQLite would keep one. Writes, an index, aggregates with long
-- strings, updates that move rows, deletions.
-- usage: memopt compare -- sqlite3 :memory: '.read examples/orders.sql'
create table orders(id integer primary key, customer text, item text, cents integer);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 200000)
insert into orders
select i, printf('c%05d', i * 7919 % 10007), substr('abcdefghijklmnopqrstuvwxyz', 1 + i % 20),
    i * 31 % 9973 from n;
create index by_customer on orders(customer);

select 'customers', count(distinct customer), max(cents) from orders;
select 'best', customer, sum(cents) from orders group by customer order by 3 desc, 2 limit 3;
select 'as text', count(*), sum(length(book)) from (
    select group_concat(item || ':' || cents) as book from orders group by id % 1009);
update orders set item = item || customer where id % 3 = 0;
delete from orders where id % 5 = 0;
insert into orders select null, customer || 'x', item, cents from orders where id % 4 = 0;
select 'left', count(*), sum(length(item)), max(customer) from orders;
