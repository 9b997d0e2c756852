// A webhook: receives a JSON object and returns it with its texts in upper case.

function upper(value) {
  if (typeof value === 'string') return value.toUpperCase();
  if (Array.isArray(value)) return value.map(upper);
  if (value && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, upper(inner)]));
  }
  return value;
}

exports.handler = async (event) => {
  const encoding = event.isBase64Encoded ? 'base64' : 'utf8';
  const body = Buffer.from(event.body || '{}', encoding).toString('utf8');
  let data;
  try {
    data = JSON.parse(body);
  } catch {
    return { statusCode: 400, body: JSON.stringify({ error: 'the body is not JSON' }) };
  }
  return {
    statusCode: 200,
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(upper(data)),
  };
};
