package flags

import (
	"fmt"

	"github.com/spf13/pflag"
)

const (
	groupAnnotation  = "promontory_group"
	secretAnnotation = "promontory_secret"
)

// Group binds flags that belong together and stand under one title in the help text.
// Inside of bind the flags go to the set that is handed in.
func Group(fs *pflag.FlagSet, title string, bind func(*pflag.FlagSet)) {
	sub := pflag.NewFlagSet(title, pflag.ContinueOnError)
	sub.SortFlags = false
	bind(sub)
	sub.VisitAll(func(f *pflag.Flag) {
		// An inner group keeps its own title.
		if GroupOf(f) == "" {
			annotate(f, groupAnnotation, title)
		}
		fs.AddFlag(f)
	})
}

// GroupOf returns the title f was bound under, "" for none.
func GroupOf(f *pflag.Flag) string {
	if v := f.Annotations[groupAnnotation]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func annotate(f *pflag.Flag, key, val string) {
	if f.Annotations == nil {
		f.Annotations = map[string][]string{}
	}
	f.Annotations[key] = []string{val}
}

// Secret marks flags whose values never appear in logs or on a status page.
func Secret(fs *pflag.FlagSet, names ...string) {
	for _, name := range names {
		if f := fs.Lookup(name); f != nil {
			annotate(f, secretAnnotation, "true")
		}
	}
}

// Redacted is shown in place of a secret value.
const Redacted = "<redacted>"

// Effective returns the value every flag of fs has after parsing, by name, with secrets redacted
// and without what is no setting: --no-name twins, old names, help and version. It is what is logged
// at start and what /api/v1/status/flags answers.
func Effective(fs *pflag.FlagSet) map[string]string {
	out := map[string]string{}
	fs.VisitAll(func(f *pflag.Flag) {
		switch f.Value.(type) {
		case *negation, *ignored, *alias:
			return
		}
		if f.Name == "help" || f.Name == "help-long" || f.Name == "version" {
			return
		}
		v := f.Value.String()
		if _, secret := f.Annotations[secretAnnotation]; secret && v != "" {
			v = Redacted
		}
		out[f.Name] = v
	})
	return out
}

// ignored is a flag that is accepted and does nothing.
type ignored struct {
	advice string
	kind   string
}

func (i *ignored) Set(string) error   { return nil }
func (i *ignored) String() string     { return "" }
func (i *ignored) Type() string       { return i.kind }
func (i *ignored) warnings() []string { return []string{"is accepted but does nothing: " + i.advice} }

// Removed binds a hidden flag with a value that is still accepted and does nothing;
// using it warns, and advice says why or what to use in its place.
func Removed(fs *pflag.FlagSet, name, advice string) {
	fs.VarPF(&ignored{advice: advice, kind: "string"}, name, "", advice).Hidden = true
}

// RemovedBool is Removed for a flag that takes no value; --no-name is accepted too.
func RemovedBool(fs *pflag.FlagSet, name, advice string) {
	for _, n := range []string{name, "no-" + name} {
		f := fs.VarPF(&ignored{advice: advice, kind: "bool"}, n, "", advice)
		f.Hidden = true
		f.NoOptDefVal = "true"
	}
}

// alias is a second name of another flag.
type alias struct {
	pflag.Value
	of string
}

func (a *alias) warnings() []string { return []string{"is deprecated: use --" + a.of} }

// problems is empty: what is wrong is remembered by the flag itself, under its present name.
func (a *alias) problems() []error { return nil }

// Alias binds a hidden second name for the flag called name, which must be bound
// already. Using it works and warns.
func Alias(fs *pflag.FlagSet, old, name string) {
	f := fs.Lookup(name)
	if f == nil {
		panic(fmt.Sprintf("flags: alias --%s of --%s, which is not bound", old, name)) //nolint:forbidigo // our own mistake
	}
	a := fs.VarPF(&alias{Value: f.Value, of: name}, old, "", "Deprecated name of --"+name+".")
	a.Hidden = true
	a.NoOptDefVal = f.NoOptDefVal
	a.Annotations = f.Annotations
}

// deprecated is a flag that works as it always did and warns.
type deprecated struct {
	pflag.Value
	advice string
}

func (d *deprecated) warnings() []string { return []string{"is deprecated: " + d.advice} }

func (d *deprecated) problems() []error {
	if c, ok := d.Value.(checker); ok {
		return c.problems()
	}
	return nil
}

// Deprecate makes the flag called name, bound already, warn with advice when it is
// used. It goes on working and is still shown in the help text.
func Deprecate(fs *pflag.FlagSet, name, advice string) {
	f := fs.Lookup(name)
	if f == nil {
		panic(fmt.Sprintf("flags: deprecate --%s, which is not bound", name)) //nolint:forbidigo // our own mistake
	}
	f.Value = &deprecated{Value: f.Value, advice: advice}
}

// Hide keeps flags out of the help text.
func Hide(fs *pflag.FlagSet, names ...string) {
	for _, name := range names {
		if f := fs.Lookup(name); f != nil {
			f.Hidden = true
		}
	}
}
