package suite

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"testing"
	"time"
)

// handshake connects the two over loopback, and lets one byte pass each way: in
// TLS 1.3 a client learns only then that the server refused it.
func handshake(t *testing.T, server, client *tls.Config) (serverErr, clientErr error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s, c := tls.Server(a, server), tls.Client(b, client)
	done := make(chan error, 1)
	talk := func(conn *tls.Conn) error {
		defer conn.NetConn().Close()
		if err := conn.HandshakeContext(ctx); err != nil {
			return err
		}
		if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			return err
		}
		_, werr := conn.Write([]byte{1})
		_, rerr := io.ReadFull(conn, make([]byte, 1))
		return errors.Join(werr, rerr)
	}
	go func() { done <- talk(s) }()
	clientErr = talk(c)
	return <-done, clientErr
}

func configs(t *testing.T, server, client *Key, admit func([]byte) error, pin []byte) (*tls.Config, *tls.Config) {
	t.Helper()
	s, err := server.ServerTLS("zs-gov", admit)
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.ClientTLS("zs-bank", pin)
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

func only(public []byte) func([]byte) error {
	return func(got []byte) error {
		if string(got) != string(public) {
			return ErrPeerKey
		}
		return nil
	}
}

func TestTLSPinsBothSides(t *testing.T) {
	gov, bank, thief := testKey(1), testKey(2), testKey(3)
	for name, c := range map[string]struct {
		server, client *Key
		admit          func([]byte) error
		pin            []byte
		ok             bool
		refusedBy      string
	}{
		"both known":                    {gov, bank, only(bank.Public()), gov.Public(), true, ""},
		"another server":                {thief, bank, only(bank.Public()), gov.Public(), false, "client"},
		"another client":                {gov, thief, only(bank.Public()), gov.Public(), false, "server"},
		"no pin":                        {gov, bank, only(bank.Public()), nil, false, "client"},
		"a pin of another size":         {gov, bank, only(bank.Public()), gov.Public()[:31], false, "client"},
		"the client's own key as a pin": {gov, bank, only(bank.Public()), bank.Public(), false, "client"},
	} {
		t.Run(name, func(t *testing.T) {
			s, cl := configs(t, c.server, c.client, c.admit, c.pin)
			serverErr, clientErr := handshake(t, s, cl)
			if c.ok != (serverErr == nil && clientErr == nil) {
				t.Fatalf("server: %v; client: %v", serverErr, clientErr)
			}
			switch c.refusedBy {
			case "client":
				if !errors.Is(clientErr, ErrPeerKey) {
					t.Errorf("client: %v", clientErr)
				}
			case "server":
				if !errors.Is(serverErr, ErrPeerKey) || clientErr == nil {
					t.Errorf("server: %v; client: %v", serverErr, clientErr)
				}
			}
		})
	}
}

// Nothing older than TLS 1.3, in either direction.
func TestTLS12IsRefused(t *testing.T) {
	gov, bank := testKey(1), testKey(2)
	s, c := configs(t, gov, bank, only(bank.Public()), gov.Public())
	c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if serverErr, clientErr := handshake(t, s, c); serverErr == nil || clientErr == nil {
		t.Errorf("old client: %v, %v", serverErr, clientErr)
	}
	s, c = configs(t, gov, bank, only(bank.Public()), gov.Public())
	s.MinVersion, s.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if serverErr, clientErr := handshake(t, s, c); serverErr == nil || clientErr == nil {
		t.Errorf("old server: %v, %v", serverErr, clientErr)
	}
}

// A client without a certificate, with two, or with a key of another kind.
func TestTLSClientMustShowOneKey(t *testing.T) {
	gov, bank := testKey(1), testKey(2)
	asked := false
	admit := func(public []byte) error { asked = true; return only(bank.Public())(public) }

	s, c := configs(t, gov, bank, admit, gov.Public())
	c.Certificates = nil
	if serverErr, _ := handshake(t, s, c); serverErr == nil {
		t.Error("no certificate was admitted")
	}

	s, c = configs(t, gov, bank, admit, gov.Public())
	other, err := testKey(3).Certificate("zs-tax")
	if err != nil {
		t.Fatal(err)
	}
	c.Certificates[0].Certificate = append(c.Certificates[0].Certificate, other.Certificate[0])
	if serverErr, _ := handshake(t, s, c); !errors.Is(serverErr, ErrPeerKey) {
		t.Errorf("a chain of two: %v", serverErr)
	}

	s, c = configs(t, gov, bank, admit, gov.Public())
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, ec.Public(), ec)
	if err != nil {
		t.Fatal(err)
	}
	c.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: ec}}
	if serverErr, _ := handshake(t, s, c); !errors.Is(serverErr, ErrPeerKey) {
		t.Errorf("an ECDSA key: %v", serverErr)
	}
	if asked {
		t.Error("admit was asked about a connection without one Ed25519 key")
	}

	// Someone who shows the bank's certificate does not hold its key.
	s, c = configs(t, gov, bank, admit, gov.Public())
	c.Certificates[0].PrivateKey = testKey(3).Signer()
	if serverErr, clientErr := handshake(t, s, c); serverErr == nil && clientErr == nil {
		t.Error("a certificate without its key was admitted")
	}
}

// admit decides anew on every connection: nothing is resumed past it.
func TestTLSAdmitsEveryConnection(t *testing.T) {
	gov, bank := testKey(1), testKey(2)
	asked, revoked := 0, false
	s, c := configs(t, gov, bank, func([]byte) error {
		if asked++; revoked {
			return ErrPeerKey
		}
		return nil
	}, gov.Public())
	c.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	for i := range 3 {
		revoked = i == 2
		serverErr, clientErr := handshake(t, s, c)
		if ok := serverErr == nil && clientErr == nil; ok == revoked {
			t.Errorf("connection %d: %v, %v", i, serverErr, clientErr)
		}
	}
	if asked != 3 {
		t.Errorf("admit was asked %d times for 3 connections", asked)
	}
}

func TestPeerKeyWithoutCertificate(t *testing.T) {
	if k := PeerKey(tls.ConnectionState{}); k != nil {
		t.Errorf("%x", k)
	}
}
