// Package gen is the OpenAPI document as Go: the wire types, the strict server
// interface that package mfa implements, the Echo routes and the document itself.
// `make generate` writes it in two steps:
//
//	openapi/openapi.yaml                     upstream's document
//	openapi/mfa.yaml                         our own operations
//	  prune: the operations in oapi-codegen.yaml
//	served.yaml                              the part that this service serves
//	  oapi-codegen: openapi/overlay.yaml
//	api.gen.go, client/client.gen.go
//
// The client is generated here too, so that one list of operations holds for both.
package gen

//go:generate go run ./prune ../oapi-codegen.yaml served.yaml ../openapi/openapi.yaml ../openapi/mfa.yaml
//go:generate go tool oapi-codegen -config ../oapi-codegen.yaml -o api.gen.go served.yaml
//go:generate go tool oapi-codegen -config ../oapi-codegen.yaml -package client -generate client,models -o client/client.gen.go served.yaml
