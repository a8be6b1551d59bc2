package handlers

// Outcome is how a click ended. Its text is what the log and the metrics say.
type Outcome string

// The outcomes.
const (
	Redirected       Outcome = "redirected"         // to the signed-in portal link
	RedirectedByHash Outcome = "redirected_by_hash" // to the portal by hash
	SignIn           Outcome = "sign_in"            // to the store's sign-in, and back here
	SignInFailed     Outcome = "sign_in_failed"     // back, and still nobody is signed in
	NotASubscriber   Outcome = "not_a_subscriber"   // Recharge does not know the customer
	Unavailable      Outcome = "unavailable"        // Recharge could not tell, and nothing is remembered
	NotConnected     Outcome = "not_connected"      // the store has no Recharge credentials
	Forbidden        Outcome = "forbidden"          // not Shopify's request
)

// Outcomes are all that there are.
func Outcomes() []Outcome {
	return []Outcome{Redirected, RedirectedByHash, SignIn, SignInFailed, NotASubscriber, Unavailable, NotConnected, Forbidden}
}
