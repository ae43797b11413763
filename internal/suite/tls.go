package suite

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// ErrPeerKey is returned in a handshake for a certificate whose key is not the
// one that was pinned.
var ErrPeerKey = errors.New("suite: the peer's certificate does not carry the pinned key")

// Certificate returns a self-signed certificate for k. Trust rests on the
// pinned key alone; names and dates in the certificate say nothing.
func (k *Key) Certificate(name string) (tls.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-24 * time.Hour),
		NotAfter:     time.Now().AddDate(20, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.key().Public(), k.key())
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("suite: certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k.key()}, nil
}

// PeerKey returns the public key of the connection's leaf certificate, after
// checking that it is an Ed25519 key; nil if there is none.
func PeerKey(cs tls.ConnectionState) []byte {
	if len(cs.PeerCertificates) != 1 {
		return nil
	}
	pub, ok := cs.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok {
		return nil
	}
	return pub
}

// ServerTLS is the server side of a TLS 1.3 connection: every client must
// present a certificate, and admit decides on its key. admit is asked on every
// handshake; resumption is off.
func (k *Key) ServerTLS(name string, admit func(public []byte) error) (*tls.Config, error) {
	cert, err := k.Certificate(name)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{cert},
		ClientAuth:             tls.RequireAnyClientCert,
		SessionTicketsDisabled: true,
		NextProtos:             []string{"h2"},
		VerifyConnection: func(cs tls.ConnectionState) error {
			pub := PeerKey(cs)
			if pub == nil {
				return ErrPeerKey
			}
			return admit(pub)
		},
	}, nil
}

// ClientTLS is the client side: the server must hold the pinned key.
func (k *Key) ClientTLS(name string, pinned []byte) (*tls.Config, error) {
	cert, err := k.Certificate(name)
	if err != nil {
		return nil, err
	}
	pin := bytes.Clone(pinned)
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{cert},
		NextProtos:   []string{"h2"},
		// Names and chains say nothing here: the pinned key below decides.
		InsecureSkipVerify: true, //nolint:gosec // replaced by VerifyConnection
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(pin) != ed25519.PublicKeySize || !bytes.Equal(PeerKey(cs), pin) {
				return ErrPeerKey
			}
			return nil
		},
	}, nil
}
