package api

import (
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"quiva.ai/mfa/server/telemetry"
)

func TestNew_RejectsDocumentsThatItDoesNotServe(t *testing.T) {
	const disagree = "OpenAPI document and code disagree; run make generate and follow the build: "
	const security = disagree + "these operations demand other credentials than bearerAuth or apiKeyAuth, or serviceKeyAuth alone: "
	const one, all = security + "generateTotpKey", security + "confirmTotpRegistration, generateTotpKey, getUserMfaInfo, issueRecoveryCodes, removeTotp, updateMfaSettings, viewRecoveryCodes"
	const withInternal = security + "confirmTotpRegistration, generateTotpKey, getMfaStatus, getUserMfaInfo, issueRecoveryCodes, removeTotp, updateMfaSettings, verifyMfaCode, viewRecoveryCodes"
	operation := func(d *openapi3.T) *openapi3.Operation { return d.Paths.Find(generatePath).Post }
	scheme := func(d *openapi3.T, name string) *openapi3.SecurityScheme {
		return d.Components.SecuritySchemes[name].Value
	}
	for name, row := range map[string]struct {
		change func(*openapi3.T)
		want   string // "": no error
	}{
		"scheme and header in another case": {func(d *openapi3.T) {
			scheme(d, "bearerAuth").Scheme, scheme(d, "apiKeyAuth").Name = "Bearer", "x-api-key"
		}, ""},
		"renamed path": {func(d *openapi3.T) {
			d.Paths.Set("/elsewhere", d.Paths.Find(generatePath))
			d.Paths.Delete(generatePath)
		}, disagree + "route POST " + generatePath + " has no operation"},
		"additional operation": {func(d *openapi3.T) {
			d.Paths.Set("/accounts/{id}", &openapi3.PathItem{Get: &openapi3.Operation{OperationID: "getAccount"}})
		}, disagree + "operation getAccount has no route"},
		"no security":            {func(d *openapi3.T) { d.Security = nil }, all},
		"open to all":            {func(d *openapi3.T) { operation(d).Security = &openapi3.SecurityRequirements{} }, one},
		"also anonymous":         {func(d *openapi3.T) { d.Security = append(d.Security, openapi3.SecurityRequirement{}) }, all},
		"only a token":           {func(d *openapi3.T) { d.Security = d.Security[:1] }, all},
		"a token twice":          {func(d *openapi3.T) { d.Security[1] = d.Security[0] }, all},
		"both together":          {func(d *openapi3.T) { d.Security[0]["apiKeyAuth"] = nil }, all},
		"both together, or none": {func(d *openapi3.T) { d.Security[0]["apiKeyAuth"], d.Security[1] = nil, openapi3.SecurityRequirement{} }, all},
		"a scope":                {func(d *openapi3.T) { d.Security[0]["bearerAuth"] = []string{"admin"} }, all},
		"an undeclared scheme":   {func(d *openapi3.T) { d.Security[0] = openapi3.SecurityRequirement{"mutualTLS": nil} }, all},
		"no schemes":             {func(d *openapi3.T) { d.Components.SecuritySchemes = nil }, withInternal},
		"no components":          {func(d *openapi3.T) { d.Components = nil }, withInternal},
		"a token of OAuth":       {func(d *openapi3.T) { scheme(d, "bearerAuth").Type = "oauth2" }, all},
		"another HTTP scheme":    {func(d *openapi3.T) { scheme(d, "bearerAuth").Scheme = "basic" }, all},
		"an API key of HTTP":     {func(d *openapi3.T) { scheme(d, "apiKeyAuth").Type = "http" }, all},
		"another header":         {func(d *openapi3.T) { scheme(d, "apiKeyAuth").Name = "X-Other" }, all},
		"an API key in a query":  {func(d *openapi3.T) { scheme(d, "apiKeyAuth").In = "query" }, all},
	} {
		t.Run(name, func(t *testing.T) {
			document := spec(t)
			row.change(document)
			_, err := New(Config{Document: document, Observer: telemetry.NewObserver(nil, time.Now)})
			if row.want == "" && err != nil || row.want != "" && (err == nil || err.Error() != row.want) {
				t.Errorf("New = %v; want %s", err, row.want)
			}
		})
	}
}
