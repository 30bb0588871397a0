package config

import (
	"fmt"
	"hash/maphash"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/pflag"

	"quiva.ai/mfa/store/smallfile"
)

// Faults are the faults of the settings. Each consists of its variables, a colon, and the
// rule that their values break.
type Faults []string

// Error implements error.
func (f Faults) Error() string { return "settings:\n  " + strings.Join(f, "\n  ") }

// concern tells whether a fault of variable, or of its file, is among f.
func (f Faults) concern(variable string) bool {
	return slices.ContainsFunc(f, func(fault string) bool {
		name, _, _ := strings.Cut(fault, ": ")
		return strings.TrimSuffix(name, "_FILE") == variable
	})
}

// with adds the faults in further whose variables have no fault in f. So a faulty value is
// not reported as missing too.
func (f Faults) with(further Faults) Faults {
	all := slices.Clone(f)
	for _, fault := range further {
		variables, _, _ := strings.Cut(fault, ": ")
		if !slices.ContainsFunc(strings.Fields(variables), f.concern) {
			all = append(all, fault)
		}
	}
	return all
}

// AddFlags declares a flag for each setting that is not secret.
func AddFlags(flags *pflag.FlagSet) {
	for _, s := range declared() {
		if !s.secret {
			flags.String(s.flag(), s.fallback, s.help)
		}
	}
}

// Help lists the variables for a command's help.
func Help() string {
	var b strings.Builder
	b.WriteString("Settings are read from these variables; NAME_FILE names a file that holds the value of NAME.\n\n")
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, s := range declared() {
		fmt.Fprintf(table, "  %s\t%s\t%s\n", s.variable, s.fallback, s.help)
	}
	_ = table.Flush() // writes to a strings.Builder cannot fail
	return b.String()
}

// Load reads the settings. A flag on the command line takes precedence over a variable, a
// variable over extra, and extra over the default. extra has values by variable. flags and
// extra may be nil. The error is Faults.
func Load(environ []string, flags *pflag.FlagSet, extra map[string]string) (*Settings, error) {
	s, faults := load(environ, flags, extra)
	if len(faults) > 0 {
		return nil, faults
	}
	return s, nil
}

// LoadServe reads the settings as Load does, and checks that they suffice for serving. With
// dev, MFA_REDIS_URL is not required.
func LoadServe(environ []string, flags *pflag.FlagSet, extra map[string]string, dev bool) (*Settings, error) {
	s, faults := load(environ, flags, extra)
	if faults = faults.with(s.checkServe(dev, faults)); len(faults) > 0 {
		return nil, faults
	}
	return s, nil
}

// load returns the settings that have no fault, and the faults of the others.
func load(environ []string, flags *pflag.FlagSet, extra map[string]string) (*Settings, Faults) {
	values, faults := readVariables(environ)
	s := &Settings{fingerprints: map[string]uint64{}}
	for _, d := range declared() {
		value, set := values[d.variable]
		if flags != nil && flags.Changed(d.flag()) {
			value, set = trimLineBreaks(flags.Lookup(d.flag()).Value.String()), true
			if value == "" {
				faults = append(faults, d.variable+": the flag --"+d.flag()+" is empty")
				continue
			}
		}
		if !set {
			value, set = extra[d.variable]
		}
		if !set {
			value = d.fallback
		}
		if value == "" {
			continue
		}
		s.fingerprints[d.variable] = maphash.String(fingerprintSeed, value)
		// A hidden character breaks most types' rules too, so the fault of the text says more.
		fault := d.checkText(value)
		if err := d.assign(reflect.ValueOf(s).Elem().Field(d.index), value); fault == nil {
			fault = err
		}
		if fault != nil {
			faults = append(faults, d.variable+": "+fault.Error())
		}
	}
	return s, faults
}

// serviceLink matches the variables that Kubernetes sets in a container for a Service called
// mfa or mfa-something. MFA_PORT with a bare number does not match: Kubernetes sets a URL.
var serviceLink = regexp.MustCompile(`^MFA_([A-Z0-9_]+_)?(SERVICE_HOST=|SERVICE_PORT(_[A-Z0-9_]+)?=|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?=|PORT=[a-z]+://)`)

// variableName matches what may be shown of an unknown variable: the rest of MFA_JWT_SECRET:x== is
// a secret.
var variableName = regexp.MustCompile(`^[A-Za-z0-9_]+`)

// readVariables returns the values of the MFA_ variables, and of the files that the
// MFA_..._FILE variables name, without the line breaks at their end. An empty variable is
// unset, but an empty secret and an empty file are faults. An unknown variable is a fault,
// because it is most likely misspelt.
func readVariables(environ []string) (map[string]string, Faults) {
	values := map[string]string{}
	var faults Faults
	known := declared()
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, "MFA_") || serviceLink.MatchString(variable) {
			continue
		}
		base, isFile := strings.CutSuffix(name, "_FILE")
		i := slices.IndexFunc(known, func(s setting) bool { return s.variable == base })
		if i < 0 {
			faults = append(faults, variableName.FindString(name)+": there is no such setting")
			continue
		}
		if value == "" && !isFile && !known[i].secret {
			continue
		}
		if _, dup := values[base]; dup {
			faults = append(faults, base+": is set twice, such as by variable and by file")
			continue
		}
		value = trimLineBreaks(value)
		if isFile {
			content, err := readValue(value)
			if err != nil {
				faults = append(faults, name+": "+err.Error())
				continue
			}
			value = content
		}
		if value == "" {
			faults = append(faults, name+": is empty")
			continue
		}
		values[base] = value
	}
	return values, faults
}

// readValue returns the content of a file without the line breaks at its end.
func readValue(path string) (string, error) {
	if err := (setting{}).checkText(path); err != nil {
		return "", err
	}
	content, err := smallfile.Read(path)
	if err != nil {
		return "", err
	}
	return trimLineBreaks(string(content)), nil
}
