# A DEMO: it lets portal.rb run alone. Anybody can sign in here as one of the sandbox's shoppers. Replace it with your
# own sessions. What must stay: the server itself remembers who has which session, and customer_of takes the customer
# from there. An id from a parameter, a form or a header would let anybody into anybody's portal.
require "securerandom"
require "webrick" # gem install webrick

SHOPPERS = {
  "Pat" => "6100200300400", # Shopify's id
  "Kim" => "recharge:70100500" # a customer at Recharge only
}.freeze
SESSIONS = {} # from a random session id to a customer

def customer_of(cookie) = SESSIONS[cookie[/(?:\A|; )session=([0-9a-f]+)/, 1]]

def sign_in(request, response, page)
  shopper = SHOPPERS[request.query["as"]] if request.request_method == "POST"
  if shopper
    session = SecureRandom.hex(16)
    SESSIONS[session] = shopper
    response["Set-Cookie"] = "session=#{session}; Path=/; HttpOnly; SameSite=Lax"
    response.status = 303
    response["Location"] = page
  else
    buttons = SHOPPERS.keys.map { |name| %(<button name="as" value="#{name}">#{name}</button>) }
    response["Content-Type"] = "text/html; charset=utf-8"
    response.body = %(<h1>Demo sign-in</h1><form method="post">#{buttons.join(" ")}</form>)
  end
end

# serve serves the page and the demo sign-in, on this machine only, and prints the page's address.
def serve(app, page, needs)
  missing = needs.reject { |name| ENV[name].to_s != "" }
  abort "Set #{missing.join(", ")} in the environment. docs/headless.md explains each." if missing.any?

  port = Integer(ENV.fetch("PORT", "3000"))
  server = WEBrick::HTTPServer.new(BindAddress: "127.0.0.1", Port: port, Logger: WEBrick::Log.new(File::NULL), AccessLog: [])
  server.mount_proc("/login") { |request, response| sign_in(request, response, page) }
  server.mount_proc(page) do |request, response|
    response.status, headers, body = app.call({ "HTTP_COOKIE" => request["Cookie"] })
    headers.each { |name, value| response[name] = value }
    response.body = body.join
  end
  trap("INT") { server.shutdown }
  puts "Listening on http://127.0.0.1:#{server.listeners.first.addr[1]}#{page}"
  $stdout.flush
  server.start
end
