// Package gen is the OpenAPI document as Go: the wire types, the strict server
// interface that package mfa implements, the Echo routes and the document
// itself. It is written in two steps, by make generate:
//
//	openapi/openapi.yaml                     upstream's document, however large
//	  prune: oapi-codegen.yaml's operations
//	served.yaml                              what of it concerns this service
//	  oapi-codegen: openapi/overlay.yaml
//	api.gen.go, client/client.gen.go
//
// The client is generated here too, so that one file names the operations for both.
package gen

//go:generate go run ./prune ../oapi-codegen.yaml ../openapi/openapi.yaml served.yaml
//go:generate go tool oapi-codegen -config ../oapi-codegen.yaml -o api.gen.go served.yaml
//go:generate go tool oapi-codegen -config ../oapi-codegen.yaml -package client -generate client,models -o client/client.gen.go served.yaml
