package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"sync"
)

const (
	keySize = 32 // bytes of an encryption key: AES-256
	idSize  = 4  // bytes of a key's id, which names it in what it sealed
	// sealVersion opens every sealed value, so that another format can follow.
	sealVersion = 1
)

// DeriveKey makes an encryption key out of the app's client secret, for the one
// store that has no key of its own. Whoever has that secret can forge any
// customer's click already, so it protects no less.
func DeriveKey(clientSecret string) ([]byte, error) {
	return hkdf.Key(sha256.New, []byte(clientSecret), nil, "manage-subscriptions encryption key", keySize)
}

// sealer is one encryption key at work. It seals values, and names keys so that
// a name tells nothing to those who do not have the key.
type sealer struct {
	id    [idSize]byte
	aead  cipher.AEAD
	names sync.Pool // of hash.Hash: to set one up takes longer than to use it
}

func newSealer(key []byte) (*sealer, error) {
	if len(key) != keySize {
		return nil, fmt.Errorf("an encryption key of %d bytes, not %d", len(key), keySize)
	}
	// One key a purpose: what names keys is never what seals values.
	sealing, err := hkdf.Key(sha256.New, key, nil, "seal", keySize)
	if err != nil {
		return nil, err
	}
	names, err := hkdf.Key(sha256.New, key, nil, "name", keySize)
	if err != nil {
		return nil, err
	}
	id, err := hkdf.Key(sha256.New, key, nil, "id", idSize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(sealing)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &sealer{
		id:    [idSize]byte(id),
		aead:  aead,
		names: sync.Pool{New: func() any { return hmac.New(sha256.New, names) }},
	}, nil
}

// seal encrypts value for one key of Redis: moved to another, it does not open.
func (s *sealer) seal(key string, value []byte) []byte {
	out := append([]byte{sealVersion}, s.id[:]...)
	return s.aead.Seal(out, nil, value, []byte(key)) //nolint:gosec // no nonce is given: this AEAD draws its own
}

var errSealed = errors.New("sealed otherwise")

func (s *sealer) open(key string, sealed []byte) ([]byte, error) {
	if !s.says(sealed) {
		return nil, errSealed
	}
	return s.aead.Open(nil, nil, sealed[1+idSize:], []byte(key))
}

// says tells whether a sealed value names this key as its own.
func (s *sealer) says(sealed []byte) bool {
	return len(sealed) >= 1+idSize && sealed[0] == sealVersion && [idSize]byte(sealed[1:1+idSize]) == s.id
}

// name is the pseudonym of parts: their HMAC, cut to size bytes, in base64.
func (s *sealer) name(size int, parts ...string) string {
	mac := s.names.Get().(hash.Hash)
	defer s.names.Put(mac)
	mac.Reset()
	for _, part := range parts {
		// With their lengths, so that no two lists give one text.
		mac.Write(binary.AppendUvarint(nil, uint64(len(part))))
		mac.Write([]byte(part))
	}
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:size])
}
