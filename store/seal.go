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
	keySize  = 32 // bytes of a key, for AES-256
	idSize   = 4  // bytes of an encryption key's id, which each record contains
	nameSize = 10 // bytes of a shopper's pseudonym
)

var errSealed = errors.New("sealed with another key, or for another place")

// DeriveKey derives an encryption key from the app's client secret, for a store that has no key of
// its own. That is no weaker, since anyone with the secret can forge any customer's click already.
func DeriveKey(clientSecret string) []byte {
	return derive([]byte(clientSecret), nil, "manage-subscriptions encryption key", keySize)
}

// must is for calls that cannot fail: AES with keys of this size, and encoding values of our own types.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// derive derives a key for one purpose.
func derive(key, salt []byte, purpose string, size int) []byte {
	return must(hkdf.Key(sha256.New, key, salt, purpose, size))
}

func newAEAD(key, salt []byte) cipher.AEAD {
	return must(cipher.NewGCMWithRandomNonce(must(aes.NewCipher(derive(key, salt, "seal", keySize)))))
}

// wrapper seals shops' records with one ENCRYPTION_KEY.
type wrapper struct {
	id   string
	aead cipher.AEAD
}

func newWrapper(key []byte) *wrapper {
	return &wrapper{string(derive(key, nil, "id", idSize)), newAEAD(key, nil)}
}

// sealer seals a shop's values with its data key, and makes the shoppers' pseudonyms.
type sealer struct {
	aead       cipher.AEAD
	names      *namer
	redactions *namer // names for the same ids that outlast the epoch
}

func newSealer(dataKey, epoch []byte) *sealer {
	return &sealer{newAEAD(dataKey, epoch), newNamer(dataKey, epoch, "name"), newNamer(dataKey, nil, "redaction")}
}

// seal appends a value to out, encrypted for one place in Redis. It does not open anywhere else.
func (s *sealer) seal(out []byte, place string, value []byte) []byte {
	return s.aead.Seal(out, nil, value, []byte(place)) //nolint:gosec // no nonce is given: this AEAD draws its own
}

func (s *sealer) open(place, sealed string) ([]byte, error) {
	in := []byte(sealed)
	value, err := s.aead.Open(in[:0], nil, in, []byte(place)) // decrypts in place, which saves a copy
	if err != nil {
		return nil, errSealed
	}
	return value, nil
}

// namer makes pseudonyms.
type namer struct{ macs sync.Pool } // of hash.Hash, which take longer to set up than to use

func newNamer(dataKey, salt []byte, purpose string) *namer {
	key := derive(dataKey, salt, purpose, keySize)
	return &namer{sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}}
}

// name returns the pseudonym of an id, in bytes.
func (n *namer) name(id string) string {
	mac := n.macs.Get().(hash.Hash)
	defer n.macs.Put(mac)
	mac.Reset()
	mac.Write([]byte(id))
	var sum [sha256.Size]byte
	return string(mac.Sum(sum[:0])[:nameSize])
}
