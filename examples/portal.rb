# Ruby: a Rack app with an account page, whose link is signed while the page is rendered. A Rails controller can do the
# same. With PORTAL_URL, PORTAL_API_KEY and SHOP (my-store.myshopify.com) in the environment, run it:
# `ruby examples/portal.rb`
require "cgi"
require "openssl"
require "securerandom"
require "uri"
require_relative "demo" # replace customer_of with your own session

# customer is Shopify's id, or "recharge:" and Recharge's. Never take it from the browser.
def signed_link(customer, destination: "", locale: "")
  shop = ENV.fetch("SHOP")
  expires = (Time.now.to_i + 240).to_s
  nonce = SecureRandom.hex(16)
  signed = ["manage-subscriptions/go/1", shop, customer, destination, locale, expires, nonce]
  text = signed.map { |value| "#{value.bytesize}:#{value}," }.join
  secret = OpenSSL::Digest::SHA256.digest(ENV.fetch("PORTAL_API_KEY"))
  signature = OpenSSL::HMAC.hexdigest("SHA256", secret, text)
  query = { shop:, customer:, destination:, locale:, expires:, nonce:, signature: }
  "#{ENV.fetch("PORTAL_URL")}/go?#{URI.encode_www_form(query)}"
end

App = lambda do |env|
  customer = customer_of(env["HTTP_COOKIE"].to_s)
  next [302, { "location" => "/login" }, []] unless customer

  link = CGI.escapeHTML(signed_link(customer))
  page = %(<h1>My account</h1><a id="manage" href="#{link}">Manage subscriptions</a>)
  headers = { "content-type" => "text/html; charset=utf-8", "cache-control" => "no-store" }
  [200, headers, [page]] # must not be cached, because the link is for this shopper only
end

serve(App, "/account", %w[PORTAL_URL PORTAL_API_KEY SHOP]) if $PROGRAM_NAME == __FILE__
