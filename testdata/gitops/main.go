// Says how GitOps tools judge resources: kstatus (as Flux and Helm use it), a Lua health check (as Argo CD runs
// it) and CEL expressions (as Flux evaluates healthCheckExprs).
//
// It reads JSON from standard input: for each resource {"object": …, "lua": SCRIPT, "cel": {"current": …,
// "inProgress": …, "failed": …}}. It prints {"kstatus": …, "argocd": …, "flux": …} for each.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	luajson "layeh.com/gopher-json"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type request struct {
	Object json.RawMessage                  `json:"object"`
	Lua    string                           `json:"lua"`
	CEL    kustomize.HealthCheckExpressions `json:"cel"`
}

type answer struct {
	Kstatus string `json:"kstatus"`
	ArgoCD  string `json:"argocd"`
	// The message that Argo CD shows.
	Message string `json:"message"`
	Flux    string `json:"flux"`
}

func main() {
	if err := judge(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func judge(in io.Reader, out io.Writer) error {
	requests, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var next request
		if err := requests.Decode(&next); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(next.Object); err != nil {
			return err
		}
		var found answer
		if result, err := status.Compute(object); err != nil {
			return fmt.Errorf("kstatus: %w", err)
		} else {
			found.Kstatus = result.Status.String()
		}
		if next.Lua != "" {
			var err error
			if found.ArgoCD, found.Message, err = argocd(next.Object, next.Lua); err != nil {
				return fmt.Errorf("lua: %w", err)
			}
		}
		if next.CEL.Current != "" {
			evaluator, err := cel.NewStatusEvaluator(&next.CEL)
			if err != nil {
				return fmt.Errorf("cel: %w", err)
			}
			result, err := evaluator.Evaluate(context.Background(), object)
			if err != nil {
				return fmt.Errorf("cel: %w", err)
			}
			found.Flux = result.Status.String()
		}
		if err := answers.Encode(found); err != nil {
			return err
		}
	}
}

// argocd runs a health check with the resource as the global obj. It returns status and message.
func argocd(object json.RawMessage, script string) (string, string, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	// Argo CD opens these libraries, with a safe part of os.
	for name, open := range map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable,
	} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), NRet: 0, Protect: true}, lua.LString(name)); err != nil {
			return "", "", err
		}
	}
	decoded, err := luajson.Decode(state, object)
	if err != nil {
		return "", "", err
	}
	state.SetGlobal("obj", decoded)
	if err := state.DoString(script); err != nil {
		return "", "", err
	}
	table, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return "", "", errors.New("the script returns no table")
	}
	return lua.LVAsString(table.RawGetString("status")), lua.LVAsString(table.RawGetString("message")), nil
}
