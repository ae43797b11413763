package secagg

import (
	"context"
	"errors"
	"fmt"

	"github.com/yinqiao/yinqiao/session"
)

// agreeRoster finds the contributors that hold the deals of each other.
func (s *step) agreeRoster(ctx context.Context) error {
	var dealers set
	for i, d := range s.deals {
		if d != nil {
			dealers |= setOf(i)
		}
	}
	if !s.coordinates() {
		ready := newFrame(appendSets(nil, dealers, s.e.included))
		err := s.toCoordinator(ctx, func(l *link) error {
			if err := l.send(ctx, kindReady, &s.tag, ready); err != nil {
				return err
			}
			body, err := l.receive(ctx, kindRoster, s)
			if err != nil {
				return err
			}
			if err := parseSets(body, s.candidates, &s.roster); err != nil {
				return s.fault(l, err)
			}
			switch {
			case s.contributes() && !s.roster.has(s.e.self):
				return s.lost("%s left this party out", l.id)
			case !s.roster.within(dealers):
				return s.fault(l, errors.New("names contributors that have dealt nothing to this party"))
			}
			return s.checkSet(l, s.roster)
		})
		return err
	}
	heard := map[session.PartyID]set{s.coordinator: dealers}
	answers := make(map[session.PartyID]*set)
	var tasks []task
	for _, l := range s.both(s.candidates) {
		answer := new(set)
		answers[l.id] = answer
		tasks = append(tasks, task{l, func(ctx context.Context) error {
			body, err := l.receive(ctx, kindReady, s)
			if err != nil {
				return err
			}
			var included set
			if err := parseSets(body, s.candidates, answer, &included); err != nil {
				return s.fault(l, err)
			}
			if included != s.e.included {
				return s.fault(l, errors.New("counts other contributors as included"))
			}
			return nil
		}})
	}
	if err := together(ctx, tasks); err != nil {
		return err
	}
	for _, l := range s.both(s.candidates) { // those that are left
		heard[l.id] = *answers[l.id]
	}
	s.roster = s.chooseRoster(heard)
	if err := s.enough(s.roster); err != nil {
		return err
	}
	// To those left out as well: they need not wait.
	return s.tell(ctx, kindRoster, s.both(s.candidates), appendSets(nil, s.roster))
}

// chooseRoster returns contributors of which each holds the deals of all
// others, and each aggregator those of all. It takes out whoever misses, or is
// missed by, most; never the coordinator.
func (s *step) chooseRoster(heard map[session.PartyID]set) set {
	var r set
	for id := range heard {
		if i, ok := s.e.index[id]; ok && s.candidates.has(i) {
			r |= setOf(i)
		}
	}
	for id, h := range heard {
		if _, ok := s.e.index[id]; !ok {
			r &= h
		}
	}
	for {
		worst, most := -1, 0
		for i := range r.all() {
			id := s.e.p.Contributors[i]
			missing := r.without(heard[id] | setOf(i)).size()
			for j := range r.without(setOf(i)).all() {
				if !heard[s.e.p.Contributors[j]].has(i) {
					missing++
				}
			}
			if missing > most && id != s.coordinator {
				worst, most = i, missing
			}
		}
		if worst < 0 {
			return r
		}
		r = r.without(setOf(worst))
	}
}

// enough is the coordinator's check that a sum over c is possible.
func (s *step) enough(c set) error {
	switch {
	case c.size() < s.e.need():
		return s.lost("%d contributors are left, %d are needed", c.size(), s.e.need())
	case s.e.included != 0 && c != s.e.included:
		return s.lost("%d of the %d contributors included are left", c.size(), s.e.included.size())
	case s.contributes() && !c.has(s.e.self):
		return s.lost("this party itself")
	}
	return nil
}

// checkSet is everybody else's, of a set that the coordinator l names.
func (s *step) checkSet(l *link, c set) error {
	switch {
	case c.size() < s.e.p.Threshold:
		return s.fault(l, fmt.Errorf("%w: %d contributors, below the threshold %d", ErrSurvivors, c.size(), s.e.p.Threshold))
	case c.size() < s.e.p.MinIncluded:
		return s.fault(l, fmt.Errorf("%w: %d contributors, at least %d are to be included", ErrSurvivors, c.size(), s.e.p.MinIncluded))
	case s.e.included != 0 && c != s.e.included:
		return s.fault(l, fmt.Errorf("%w: other contributors than those included before", ErrSurvivors))
	}
	return nil
}
