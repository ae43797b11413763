// Package files is the YAML that people write for the operator verbs and for
// scenarios: catalog entries, exchange requests, jobs, and whole scenarios.
// Every file is parsed strictly.
package files

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/yinqiao/yinqiao/catalog"
	"github.com/yinqiao/yinqiao/internal/disclosure/rules"
	"github.com/yinqiao/yinqiao/internal/strictyaml"
	catalogv1 "github.com/yinqiao/yinqiao/proto/yinqiao/catalog/v1"
	nodev1 "github.com/yinqiao/yinqiao/proto/yinqiao/node/v1"
)

// Entry is a catalog entry with the dataset behind it. Coded fields hold codes
// of the platform's code table.
type Entry struct {
	Code           string         `yaml:"code"`
	Name           string         `yaml:"name"`
	ProviderCode   string         `yaml:"provider_code"`
	Abstract       string         `yaml:"abstract"`
	Classification Classification `yaml:"classification"`
	Items          []Item         `yaml:"items"`
	ShareType      string         `yaml:"share_type"`
	ShareCondition string         `yaml:"share_condition"`
	ShareMode      string         `yaml:"share_mode"`
	OpenAttribute  string         `yaml:"open_attribute"`
	Grade          string         `yaml:"grade"`
	SourceSystem   string         `yaml:"source_system"`
	UpdateCycle    string         `yaml:"update_cycle"`
	Format         string         `yaml:"format"`
	Related        []string       `yaml:"related"`
	Dataset        string         `yaml:"dataset"`
}

// Classification of an entry: 类, 项, 目, 细目.
type Classification struct {
	Category string `yaml:"category"`
	Item     string `yaml:"item"`
	Subject  string `yaml:"subject"`
	Detail   string `yaml:"detail"`
}

// Item is one information item of an entry.
type Item struct {
	Name        string `yaml:"name"`
	Type        string `yaml:"type"`
	Description string `yaml:"description"`
	Key         bool   `yaml:"key"`
	Grade       string `yaml:"grade"`
}

// Validate checks what the platform will not: that a dataset is named.
func (e *Entry) Validate() error {
	if e.Dataset == "" {
		return strictyaml.Invalid("dataset", "name the dataset of node.yaml that stands behind the entry")
	}
	return nil
}

// Message returns the entry as it is signed; provider, version and date are
// filled in by the node.
func (e *Entry) Message() *catalogv1.Entry {
	m := &catalogv1.Entry{
		Code: e.Code, Name: e.Name, ProviderCode: e.ProviderCode, Abstract: e.Abstract,
		Classification: &catalogv1.Classification{
			Category: e.Classification.Category, Item: e.Classification.Item,
			Subject: e.Classification.Subject, Detail: e.Classification.Detail,
		},
		ShareType: e.ShareType, ShareCondition: e.ShareCondition, ShareMode: e.ShareMode, OpenAttribute: e.OpenAttribute,
		Grade: e.Grade, SourceSystem: e.SourceSystem, UpdateCycle: e.UpdateCycle, Format: e.Format, Related: e.Related,
	}
	for _, it := range e.Items {
		m.Items = append(m.Items, &catalogv1.Item{Name: it.Name, Type: it.Type, Description: it.Description, Key: it.Key, Grade: it.Grade})
	}
	return m
}

// Request is an exchange request.
type Request struct {
	ID           string        `yaml:"id"` // blank: made by the node
	Purpose      string        `yaml:"purpose"`
	Scene        string        `yaml:"scene"`
	LegalBasis   string        `yaml:"legal_basis"`
	Uses         []Use         `yaml:"uses"`
	Computations []Computation `yaml:"computations"`
	Recipients   []string      `yaml:"recipients"`
	Limits       Limits        `yaml:"limits"`
}

// Use asks for items of an entry.
type Use struct {
	Entry   string   `yaml:"entry"`
	Version int64    `yaml:"version"` // 0: the current one
	Items   []string `yaml:"items"`   // blank: all
}

// Computation asks for one job kind.
type Computation struct {
	Kind        string   `yaml:"kind"`
	Roles       []Role   `yaml:"roles"`
	Permissions []string `yaml:"permissions"`
}

// Role is a party in a role.
type Role struct {
	Party string `yaml:"party"`
	Role  string `yaml:"role"`
}

// Limits of a request. ValidFor counts from ValidFrom, which is now where
// blank.
type Limits struct {
	MaxRuns         int64         `yaml:"max_runs"`
	MinIntersection int64         `yaml:"min_intersection"`
	MinBeforeReveal bool          `yaml:"min_before_reveal"`
	Release         rules.Set     `yaml:"release"`
	ValidFrom       time.Time     `yaml:"valid_from"`
	ValidUntil      time.Time     `yaml:"valid_until"`
	ValidFor        time.Duration `yaml:"valid_for"`
}

// Validate checks the dates, and the rules for released statistics.
func (r *Request) Validate() error {
	l := r.Limits
	var errs []error
	if l.ValidUntil.IsZero() == (l.ValidFor == 0) {
		errs = append(errs, strictyaml.Invalid("limits", "give either valid_until or valid_for"))
	}
	for _, f := range l.Release.Faults() {
		errs = append(errs, strictyaml.Invalid("limits.release."+f.Field, "want %s", f.Want))
	}
	return errors.Join(errs...)
}

// Entries finds current entries by code.
type Entries func(code string) (*catalogv1.Entry, error)

// Message returns the request as it is signed. Versions and items left blank
// are filled in from the catalog.
func (r *Request) Message(now time.Time, entries Entries) (*catalogv1.Request, error) {
	m := &catalogv1.Request{
		Id: r.ID, Purpose: r.Purpose, Scene: r.Scene, LegalBasis: r.LegalBasis, Recipients: r.Recipients,
		Limits: &catalogv1.Limits{
			MaxRuns: r.Limits.MaxRuns, MinIntersection: r.Limits.MinIntersection, MinBeforeReveal: r.Limits.MinBeforeReveal,
			Release: catalog.ReleaseMessage(r.Limits.Release),
		},
	}
	from, until := r.Limits.ValidFrom, r.Limits.ValidUntil
	if from.IsZero() {
		from = now
	}
	if until.IsZero() {
		until = from.Add(r.Limits.ValidFor)
	}
	m.Limits.ValidFrom, m.Limits.ValidUntil = timestamppb.New(from), timestamppb.New(until)
	var errs []error
	for _, u := range r.Uses {
		mu := &catalogv1.Use{Entry: u.Entry, Version: u.Version, Items: u.Items}
		if u.Version == 0 || len(u.Items) == 0 {
			e, err := entries(u.Entry)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if u.Version == 0 {
				mu.Version = e.GetVersion()
			}
			if len(u.Items) == 0 {
				for _, it := range e.GetItems() {
					mu.Items = append(mu.Items, it.GetName())
				}
			}
		}
		m.Uses = append(m.Uses, mu)
	}
	for _, c := range r.Computations {
		mc := &catalogv1.Computation{Kind: c.Kind, Permissions: c.Permissions}
		for _, b := range c.Roles {
			mc.Roles = append(mc.Roles, &catalogv1.RoleBinding{Party: b.Party, Role: b.Role})
		}
		m.Computations = append(m.Computations, mc)
	}
	return m, errors.Join(errs...)
}

// Job is what is submitted under a grant.
type Job struct {
	Kind       string          `yaml:"kind"`     // blank: the grant's only one
	Protocol   string          `yaml:"protocol"` // auto: the best of the granted kinds that give what kind does
	Params     strictyaml.JSON `yaml:"params"`
	Purpose    string          `yaml:"purpose"`
	Scene      string          `yaml:"scene"`
	Inputs     []Input         `yaml:"inputs"` // blank: everything granted
	Recipients []string        `yaml:"recipients"`
	Timeout    time.Duration   `yaml:"timeout"`
}

// Validate reports what no node could take as it is meant.
func (j *Job) Validate() error {
	if j.Timeout < 0 || j.Timeout%time.Second != 0 {
		return strictyaml.Invalid("timeout", "want whole seconds, such as 2h or 90s")
	}
	return nil
}

// Input narrows what one party puts in.
type Input struct {
	Party   string   `yaml:"party"`
	Entry   string   `yaml:"entry"`
	Version int64    `yaml:"version"`
	Items   []string `yaml:"items"`
}

// Message returns the submission under a grant.
func (j *Job) Message(grant string) *nodev1.SubmitJobRequest {
	m := &nodev1.SubmitJobRequest{
		GrantId: grant, Kind: j.Kind, Protocol: j.Protocol, Params: j.Params, Purpose: j.Purpose, Scene: j.Scene, Recipients: j.Recipients,
		TimeoutSeconds: int64(j.Timeout / time.Second),
	}
	for _, in := range j.Inputs {
		m.Inputs = append(m.Inputs, &nodev1.JobInput{Party: in.Party, Entry: in.Entry, Version: in.Version, Items: in.Items})
	}
	return m
}

// Read decodes and validates one file.
func Read[T any](path string) (*T, error) {
	v := new(T)
	if err := strictyaml.DecodeFile(path, v); err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	return v, nil
}
