package main

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"quiva.ai/mfa/store/smallfile"
)

// otelVariables returns the OTEL_ variables that are set; an empty one counts as unset.
func otelVariables(environ []string) map[string]string {
	values := map[string]string{}
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		if value = strings.TrimSpace(value); strings.HasPrefix(name, "OTEL_") && value != "" {
			values[name] = value
		}
	}
	return values
}

// wantsTraces tells whether an exporter or its endpoint is named, and not switched off.
func wantsTraces(values map[string]string) bool {
	if strings.EqualFold(values["OTEL_SDK_DISABLED"], "true") || values["OTEL_TRACES_EXPORTER"] == "none" {
		return false
	}
	return values["OTEL_TRACES_EXPORTER"]+values["OTEL_EXPORTER_OTLP_ENDPOINT"]+values["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] != ""
}

// maxOTelNumber is more than anybody needs, in milliseconds and in spans, and so few that
// there is memory for them.
const maxOTelNumber = 1_000_000

// judgeOTel reports the variables whose value the SDK would ignore, and print: the
// headers' secrets too.
func judgeOTel(environ []string) faults {
	values := otelVariables(environ)
	if !wantsTraces(values) {
		return nil
	}
	var wrong faults
	for name, value := range values {
		// Of the exporter's, each is also there for traces alone.
		rule := strings.Replace(name, "OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_", 1)
		if err := judgeOTelValue(rule, value); err != nil {
			wrong = append(wrong, name+": "+err.Error())
		}
	}
	endpoint := cmp.Or(values["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"], values["OTEL_EXPORTER_OTLP_ENDPOINT"])
	for _, prefix := range []string{"OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_TRACES_"} {
		certificate, key := values[prefix+"CLIENT_CERTIFICATE"], values[prefix+"CLIENT_KEY"]
		if certificate+key+values[prefix+"CERTIFICATE"] != "" && strings.HasPrefix(strings.ToLower(endpoint), "http:") {
			wrong = append(wrong, prefix+"CERTIFICATE, "+prefix+"CLIENT_CERTIFICATE: are for an endpoint with https, and this one has http")
		}
		if _, err := smallfile.KeyPair(certificate, key); certificate+key != "" && err != nil {
			wrong = append(wrong, prefix+"CLIENT_CERTIFICATE, "+prefix+"CLIENT_KEY: must be PEM files of a certificate and its key")
		}
	}
	slices.Sort(wrong)
	return wrong
}

// judgeOTelValue says what a variable must be, if it is not.
//
//nolint:cyclop // One case for each variable.
func judgeOTelValue(name, value string) error {
	switch name {
	case "OTEL_TRACES_EXPORTER":
		return oneOf(value, "otlp", "none")
	case "OTEL_EXPORTER_OTLP_PROTOCOL":
		return oneOf(value, "http/protobuf", "http/json")
	case "OTEL_EXPORTER_OTLP_COMPRESSION":
		return oneOf(value, "gzip", "none")
	case "OTEL_TRACES_SAMPLER":
		return oneOf(strings.ToLower(value), "always_on", "always_off", "traceidratio",
			"parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio")
	case "OTEL_TRACES_SAMPLER_ARG":
		if ratio, err := strconv.ParseFloat(value, 64); err != nil || ratio < 0 || ratio > 1 {
			return errors.New("must be a number from 0 to 1")
		}
	case "OTEL_EXPORTER_OTLP_ENDPOINT":
		if u, err := url.Parse(value); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return errors.New("must be an http or https URL")
		}
	case "OTEL_EXPORTER_OTLP_HEADERS":
		return judgePairs(value, headerName)
	case "OTEL_RESOURCE_ATTRIBUTES":
		return judgePairs(value, anyName)
	case "OTEL_EXPORTER_OTLP_CERTIFICATE":
		return judgeCertificates(value)
	case "OTEL_EXPORTER_OTLP_TIMEOUT",
		"OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_EXPORT_TIMEOUT", "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE":
		// A queue is made at once, as long as it says.
		if n, err := strconv.Atoi(value); err != nil || n <= 0 || n > maxOTelNumber {
			return fmt.Errorf("must be a whole number from 1 to %d", maxOTelNumber)
		}
	}
	if _, err := strconv.Atoi(value); err != nil && strings.HasSuffix(name, "_LIMIT") {
		return errors.New("must be a whole number")
	}
	return nil
}

func oneOf(value string, known ...string) error {
	if !slices.Contains(known, value) {
		return errors.New("must be " + strings.Join(known, " or "))
	}
	return nil
}

// judgePairs wants what the SDK wants, so that none is printed or left out.
func judgePairs(value string, wellFormed *regexp.Regexp) error {
	for pair := range strings.SplitSeq(value, ",") {
		name, content, ok := strings.Cut(pair, "=")
		_, err := url.PathUnescape(content)
		if !ok || err != nil || !wellFormed.MatchString(strings.TrimSpace(name)) {
			return errors.New("must be name=value pairs, comma separated, percent-encoded")
		}
	}
	return nil
}

var (
	headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$") // a token of RFC 9110 section 5.6.2
	anyName    = regexp.MustCompile(".")
)

func judgeCertificates(path string) error {
	text, err := smallfile.Read(path)
	if err != nil || !x509.NewCertPool().AppendCertsFromPEM(text) {
		return errors.New("must be a PEM file of certificates")
	}
	return nil
}
