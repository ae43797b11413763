package oprf

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/yinqiao/yinqiao/internal/wire"
	"github.com/yinqiao/yinqiao/scratch"
	"github.com/yinqiao/yinqiao/session"
)

// Store is where a party keeps what outlives a session: a server its epoch, a
// client the table of one.
type Store struct {
	// Cache is kept between runs. Nil is Disk: then every run begins anew.
	Cache scratch.Files
	// Disk is for the time of the run. Nil is memory.
	Disk scratch.Files
	// Slot names the server's dataset and what of it are keys: the server keeps
	// one epoch for each, and the client one table for each and server.
	Slot string
}

func (s Store) withDefaults() Store {
	if s.Disk == nil {
		s.Disk = scratch.Memory()
	}
	if s.Cache == nil {
		s.Cache = s.Disk
	}
	return s
}

// place is the part of a cache that belongs to one slot.
type place struct {
	files scratch.Files
	dir   string // ends with '/'
}

// place returns the part of the cache for role at self and with peer, which is
// blank where all peers share it.
func (s Store) place(role string, self, peer session.PartyID, p Params) place {
	var b []byte
	for _, part := range []string{s.Slot, string(self), string(peer), p.Items, fmt.Sprint(p.falseMatchBits())} {
		b = wire.AppendBytes(b, []byte(part))
	}
	sum := sha256.Sum256(b)
	return place{s.Cache, role + "/" + hex.EncodeToString(sum[:12]) + "/"}
}

// write writes a whole file.
func (p place) write(name string, b []byte) error {
	w, err := p.files.Create(p.dir + name)
	if err != nil {
		return err
	}
	defer w.Discard()
	if _, err := w.Write(b); err != nil {
		return err
	}
	return w.Commit()
}

// read reads a whole file, of at most limit bytes.
func (p place) read(name string, limit int64) ([]byte, error) {
	f, err := p.files.Open(p.dir + name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if f.Size() > limit {
		return nil, scratch.ErrDamaged
	}
	b := make([]byte, f.Size())
	_, err = io.ReadFull(f, b)
	return b, err
}

// prune removes all files but those that keep says to keep.
func (p place) prune(keep func(name string) bool) error {
	names, err := p.files.Names(p.dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if !keep(strings.TrimPrefix(n, p.dir)) {
			if err := p.files.Remove(n); err != nil {
				return err
			}
		}
	}
	return nil
}

// locks keep two sessions of this process from preparing or downloading the
// same table at once.
var locks = struct {
	sync.Mutex
	held map[string]chan struct{}
}{held: make(map[string]chan struct{})}

// lock waits until no other session works on the slot, and returns the way to
// let the next one.
func (p place) lock(ctx context.Context) (unlock func(), err error) {
	for {
		locks.Lock()
		taken, ok := locks.held[p.dir]
		if !ok {
			mine := make(chan struct{})
			locks.held[p.dir] = mine
			locks.Unlock()
			return func() {
				locks.Lock()
				delete(locks.held, p.dir)
				locks.Unlock()
				close(mine)
			}, nil
		}
		locks.Unlock()
		select {
		case <-taken:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
