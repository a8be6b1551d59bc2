package portal

import "manage-subscriptions/recharge"

// Meter keeps the operator's metrics. It must not block.
type Meter interface {
	Click(Click)
	Call(recharge.Call)
	Status(StatusAnswer)
	Webhook(from Sender, status int) // status is that of our answer
}

// StatusAnswer is our answer to a theme that asked whether to show the link.
type StatusAnswer string

// The answers.
const (
	StatusSubscriber    StatusAnswer = "subscriber"
	StatusNotSubscriber StatusAnswer = "not_a_subscriber"
	StatusNotKnown      StatusAnswer = "not_known"
	StatusSignedOut     StatusAnswer = "signed_out"
	StatusForbidden     StatusAnswer = "forbidden"
)

// StatusAnswers returns all of them.
func StatusAnswers() []StatusAnswer {
	return []StatusAnswer{StatusSubscriber, StatusNotSubscriber, StatusNotKnown, StatusSignedOut, StatusForbidden}
}

// Sender is the sender of a webhook.
type Sender string

// The senders.
const (
	SentByShopify  Sender = "shopify"
	SentByRecharge Sender = "recharge"
)
