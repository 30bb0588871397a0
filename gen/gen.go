// Package gen is the OpenAPI document as Go: the wire types, the strict server
// interface that package mfa implements, the Echo routes and the document
// itself. Everything but this file is written by oapi-codegen from
// openapi/openapi.yaml and openapi/overlay.yaml; run make generate after a
// change to either, or to oapi-codegen.yaml.
package gen

//go:generate go tool oapi-codegen -config ../oapi-codegen.yaml ../openapi/openapi.yaml
