-- headwater: materialization = append
SELECT $id AS id, $customer AS customer, $amount AS amount
