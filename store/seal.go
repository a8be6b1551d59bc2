package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"hash"
	"sync"
)

const (
	keySize = 32 // bytes of a key: AES-256
	idSize  = 4  // bytes of an encryption key's id, which names it in what it has sealed
	// nameSize is how many bytes a shopper's pseudonym has.
	nameSize = 10
)

var errSealed = errors.New("sealed with another key, or for another place")

// DeriveKey makes an encryption key out of the app's client secret, for the one
// store that has no key of its own. Whoever has that secret can forge any
// customer's click already, so it protects no less.
func DeriveKey(clientSecret string) []byte {
	return derive([]byte(clientSecret), nil, "manage-subscriptions encryption key", keySize)
}

// derive makes a key for one purpose: what names keys is never what seals values. It cannot
// fail for sizes such as ours.
func derive(key, salt []byte, purpose string, size int) []byte {
	derived, err := hkdf.Key(sha256.New, key, salt, purpose, size)
	if err != nil {
		panic(err)
	}
	return derived
}

func newAEAD(key, salt []byte) cipher.AEAD {
	block, err := aes.NewCipher(derive(key, salt, "seal", keySize))
	if err != nil {
		panic(err) // not for a key of that size
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // not for AES
	}
	return aead
}

// wrapper is one ENCRYPTION_KEY at work. It seals shops' records, nothing else.
type wrapper struct {
	id   string
	aead cipher.AEAD
}

func newWrapper(key []byte) *wrapper {
	return &wrapper{string(derive(key, nil, "id", idSize)), newAEAD(key, nil)}
}

// sealer is a shop's data key at work. It seals what is kept of the shop, and names
// shoppers so that a name says nothing to those who do not have the key.
type sealer struct {
	aead       cipher.AEAD
	names      *namer
	redactions *namer // of the same ids: these outlast the epoch
}

// newSealer returns the sealer of a data key in one epoch.
func newSealer(dataKey, epoch []byte) *sealer {
	return &sealer{newAEAD(dataKey, epoch), newNamer(dataKey, epoch, "name"), newNamer(dataKey, nil, "redaction")}
}

// seal encrypts a value for one place in Redis: moved to another, it does not open. It is
// appended to out.
func (s *sealer) seal(out []byte, place string, value []byte) []byte {
	return s.aead.Seal(out, nil, value, []byte(place)) //nolint:gosec // no nonce is given: this AEAD draws its own
}

func (s *sealer) open(place, sealed string) ([]byte, error) {
	in := []byte(sealed)
	value, err := s.aead.Open(in[:0], nil, in, []byte(place)) // in its own place: a copy less
	if err != nil {
		return nil, errSealed
	}
	return value, nil
}

// namer makes pseudonyms.
type namer struct{ macs sync.Pool } // of hash.Hash: to set one up takes longer than to use it

func newNamer(dataKey, salt []byte, purpose string) *namer {
	key := derive(dataKey, salt, purpose, keySize)
	return &namer{sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}}
}

// name is the pseudonym of an id, in bytes.
func (n *namer) name(id string) string {
	mac := n.macs.Get().(hash.Hash)
	defer n.macs.Put(mac)
	mac.Reset()
	mac.Write([]byte(id))
	var sum [sha256.Size]byte
	return string(mac.Sum(sum[:0])[:nameSize])
}
