-- One wrk run: a JSON POST of 270 bytes from a client with an API key.
--
--   wrk … -s wrk.lua URL -- KIND THINK_MS
--
-- KIND is `canonical`, every value as the service wants it, or `aliases`, of which three have to
-- be rewritten. THINK_MS is 0. Ends with one line of JSON.

local stages = {
  canonical = '{"pre-seed":0.1,"seed":0.2,"series-a":0.3,"growth":0.4}',
  aliases = '{"Pre Seed":0.1,"seed":0.2,"Series A":0.3,"Growth":0.4}',
}

function init(args)
  wrk.method = "POST"
  wrk.headers["Accept"] = "application/json"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["X-Api-Key"] = "sw_bench"
  wrk.headers["X-Tenant-Id"] = "acme"
  wrk.body = '{"company":"Example Parcels Ltd","contact":"desk@parcels.example","country":"NL",'
    .. '"employees":42,"tags":["b2b","logistics"],"stages":' .. stages[args[1]]
    .. ',"summary":"Delivers parcels by bicycle in cities; wants to open two more depots."}'
  assert(#wrk.body == 270, #wrk.body)
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"bad_status":%d,"socket_errors":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
