package audit

import (
	"context"
	"crypto"
	"encoding/base64"
	"fmt"
	"log/slog"
	"sync"

	formats "github.com/transparency-dev/formats/log"
	"golang.org/x/mod/sumdb/note"
	"k8s.io/klog/v2"

	"github.com/yinqiao/yinqiao/internal/suite"
)

// signer signs checkpoints with the node's key, as https://c2sp.org/signed-note
// defines it for Ed25519.
type signer struct {
	verifier
	key crypto.Signer
}

// verifier is the public side of a signer.
type verifier struct{ note.Verifier }

func newSigner(party string, key *suite.Key) (signer, error) {
	v, err := newVerifier(party, key.Public())
	return signer{v, key.Signer()}, err
}

func newVerifier(party string, public []byte) (verifier, error) {
	id, err := note.NewEd25519VerifierKey(party, public)
	if err != nil {
		return verifier{}, fmt.Errorf("audit: the log's key: %w", err)
	}
	v, err := note.NewVerifier(id)
	if err != nil {
		return verifier{}, fmt.Errorf("audit: %q cannot name a log: %w", party, err)
	}
	return verifier{v}, nil
}

// Sign implements note.Signer.
func (s signer) Sign(msg []byte) ([]byte, error) { return s.key.Sign(nil, msg, crypto.Hash(0)) }

// parseCheckpoint accepts exactly the bytes that the log's key signs: one
// signature, and no second way to write it.
func parseCheckpoint(raw []byte, v verifier) (formats.Checkpoint, error) {
	cp, _, n, err := formats.ParseCheckpoint(raw, v.Name(), v)
	if err != nil {
		return formats.Checkpoint{}, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	if len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 0 {
		return formats.Checkpoint{}, fmt.Errorf("%w: it has other signatures than the log's own", ErrCheckpoint)
	}
	sig, err := base64.StdEncoding.Strict().DecodeString(n.Sigs[0].Base64)
	if err != nil {
		return formats.Checkpoint{}, fmt.Errorf("%w: signature: %w", ErrCheckpoint, err)
	}
	again := fmt.Sprintf("%s\n— %s %s\n", cp.Marshal(), v.Name(), base64.StdEncoding.EncodeToString(sig))
	if again != string(raw) {
		return formats.Checkpoint{}, fmt.Errorf("%w: it is not written the canonical way", ErrCheckpoint)
	}
	return *cp, nil
}

var bridgeOnce sync.Once

// bridgeDriverLog takes the driver's words, which it writes to a logger of the
// whole process, into the log of the first Log that is opened.
func bridgeDriverLog(l *slog.Logger) {
	bridgeOnce.Do(func() { klog.SetSlogLogger(slog.New(driverLog{l.Handler()})) })
}

// driverLog puts the driver's "info", which tells of every start, at debug.
type driverLog struct{ slog.Handler }

func (d driverLog) Enabled(ctx context.Context, lv slog.Level) bool {
	return d.Handler.Enabled(ctx, lower(lv))
}

func (d driverLog) Handle(ctx context.Context, r slog.Record) error {
	out := slog.NewRecord(r.Time, lower(r.Level), "audit log driver", r.PC)
	out.AddAttrs(slog.String("text", r.Message))
	r.Attrs(func(a slog.Attr) bool { out.AddAttrs(a); return true })
	return d.Handler.Handle(ctx, out)
}

func (d driverLog) WithAttrs(a []slog.Attr) slog.Handler { return driverLog{d.Handler.WithAttrs(a)} }

func (d driverLog) WithGroup(n string) slog.Handler { return driverLog{d.Handler.WithGroup(n)} }

func lower(lv slog.Level) slog.Level {
	if lv < slog.LevelWarn {
		return slog.LevelDebug
	}
	return lv
}
