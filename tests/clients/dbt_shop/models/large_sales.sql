select product, sum(price) as total from {{ ref('large_orders') }} group by product
