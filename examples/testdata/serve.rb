# Serves the example on a free loopback port and prints its address.
require "webrick"
require_relative "../portal"

server = WEBrick::HTTPServer.new(BindAddress: "127.0.0.1", Port: 0, Logger: WEBrick::Log.new(File::NULL), AccessLog: [])
server.mount_proc("/account") do |request, response|
  status, headers, body = App.call({ "HTTP_COOKIE" => request["Cookie"] })
  response.status = status
  headers.each { |name, value| response[name] = value }
  response.body = body.join
end
puts "http://127.0.0.1:#{server.listeners.first.addr[1]}"
$stdout.flush
server.start
