-- A view over a seed.
select id, customer, lower(product) as product, price, day
from {{ ref('orders') }}
