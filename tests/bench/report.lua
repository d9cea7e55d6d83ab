-- wrk's figures as one line of JSON. With a file of paths as argument, they are asked for in turn, not one path alone.
local paths, asked = nil, 0

function init(args)
  if args[1] then
    paths = {}
    for line in io.lines(args[1]) do
      paths[#paths + 1] = wrk.format("GET", line)
    end
    request = function()
      asked = asked + 1
      return paths[(asked - 1) % #paths + 1]
    end
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "duration_us": %d, "p50_us": %.1f, "p99_us": %.1f, "errors": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
