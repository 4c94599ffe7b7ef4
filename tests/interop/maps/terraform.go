package maps

import (
	"encoding/json"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// readLocals evaluates the locals of a Terraform file, which may refer to nothing else.
func readLocals(text []byte) (any, error) {
	file, problems := hclsyntax.ParseConfig(text, "main.tf", hcl.InitialPos)
	if problems.HasErrors() {
		return nil, problems
	}
	schema := &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{{Type: "locals"}}}
	content, _, problems := file.Body.PartialContent(schema)
	if problems.HasErrors() {
		return nil, problems
	}
	locals := make(map[string]json.RawMessage)
	for _, block := range content.Blocks {
		attributes, problems := block.Body.JustAttributes()
		if problems.HasErrors() {
			return nil, problems
		}
		for name, attribute := range attributes {
			value, problems := attribute.Expr.Value(nil)
			if problems.HasErrors() {
				return nil, problems
			}
			written, err := ctyjson.Marshal(value, value.Type())
			if err != nil {
				return nil, err
			}
			locals[name] = written
		}
	}
	return locals, nil
}
