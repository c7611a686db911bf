// Makes the calls it reads as lines of JSON and writes what came of each as a line of JSON; tests/conformance/README.md has the form.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	_ "example.invalid/conductor-agent/gen/claude_conductor/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	_ "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

type step struct {
	ID       int               `json:"id"`
	Target   string            `json:"target"`
	Token    string            `json:"token"`
	Method   string            `json:"method"`
	Request  json.RawMessage   `json:"request"`
	Raw      *[]byte           `json:"raw"`
	Requests []json.RawMessage `json:"requests"`
	Raws     [][]byte          `json:"raws"`
	Until    string            `json:"until"`
	Seconds  float64           `json:"seconds"`
}

type failure struct {
	Code         string            `json:"code"`
	Message      string            `json:"message"`
	Reason       string            `json:"reason,omitempty"`
	Domain       string            `json:"domain,omitempty"`
	Metadata     map[string]string `json:"metadata,omitempty"`
	RetrySeconds float64           `json:"retrySeconds,omitempty"`
}

type outcome struct {
	ID        int               `json:"id"`
	Response  json.RawMessage   `json:"response,omitempty"`
	Raw       []byte            `json:"raw,omitempty"`
	Responses []json.RawMessage `json:"responses,omitempty"`
	Error     *failure          `json:"error,omitempty"`
	Fault     string            `json:"fault,omitempty"`
}

// The form of the specification: NOT_FOUND, not NotFound.
var codes = strings.Fields(`OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED
	RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED`)

func failed(err error) *failure {
	told := status.Convert(err)
	found := &failure{Code: codes[told.Code()], Message: told.Message()}
	for _, detail := range told.Details() {
		switch known := detail.(type) {
		case *errdetails.ErrorInfo:
			found.Reason, found.Domain, found.Metadata = known.Reason, known.Domain, known.Metadata
		case *errdetails.RetryInfo:
			found.RetrySeconds = known.RetryDelay.AsDuration().Seconds()
		}
	}
	return found
}

func fresh(message protoreflect.MessageDescriptor) (proto.Message, error) {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(message.FullName())
	if err != nil {
		return nil, err
	}
	return kind.New().Interface(), nil
}

func parsed(kind protoreflect.MessageDescriptor, text json.RawMessage, raw *[]byte) (proto.Message, error) {
	message, err := fresh(kind)
	if err != nil {
		return nil, err
	}
	if raw != nil {
		return message, proto.Unmarshal(*raw, message) // what is unknown stays in the message
	}
	if len(text) == 0 {
		return message, nil
	}
	return message, protojson.Unmarshal(text, message)
}

func perform(s step, connection *grpc.ClientConn) (found outcome, err error) {
	service, name, _ := strings.Cut(s.Method, "/")
	descriptor, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return found, err
	}
	method := descriptor.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(name))
	if s.Seconds == 0 {
		s.Seconds = 10
	}
	ctx, end := context.WithTimeout(context.Background(), time.Duration(s.Seconds*float64(time.Second)))
	defer end()
	if s.Token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+s.Token)
	}
	if s.Until != "" {
		return stream(ctx, s, connection, method)
	}
	request, err := parsed(method.Input(), s.Request, s.Raw)
	if err != nil {
		return found, err
	}
	answer, err := fresh(method.Output())
	if err != nil {
		return found, err
	}
	if refused := connection.Invoke(ctx, "/"+s.Method, request, answer); refused != nil {
		return outcome{Error: failed(refused)}, nil
	}
	if s.Raw != nil {
		found.Raw, err = proto.Marshal(answer)
		return found, err
	}
	found.Response, err = protojson.Marshal(answer)
	return found, err
}

func stream(ctx context.Context, s step, connection *grpc.ClientConn, method protoreflect.MethodDescriptor) (found outcome, err error) {
	call, refused := connection.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/"+s.Method)
	for i := 0; refused == nil && i < max(len(s.Requests), len(s.Raws)); i++ {
		var request proto.Message
		if s.Raws != nil {
			request, err = parsed(method.Input(), nil, &s.Raws[i])
		} else {
			request, err = parsed(method.Input(), s.Requests[i], nil)
		}
		if err != nil {
			return found, err
		}
		refused = call.SendMsg(request)
	}
	for refused == nil {
		answer, err := fresh(method.Output())
		if err != nil {
			return found, err
		}
		if refused = call.RecvMsg(answer); refused != nil {
			break
		}
		text, err := protojson.Marshal(answer)
		found.Responses = append(found.Responses, text)
		var fields map[string]json.RawMessage
		if json.Unmarshal(text, &fields); err != nil || fields[s.Until] != nil {
			return found, err
		}
	}
	found.Error = failed(refused)
	return found, nil
}

func main() {
	connections, writing := map[string]*grpc.ClientConn{}, sync.Mutex{}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var s step
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			panic(err)
		}
		if connections[s.Target] == nil {
			connection, err := grpc.NewClient(s.Target, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				panic(err)
			}
			connections[s.Target] = connection
		}
		go func(connection *grpc.ClientConn) {
			found, err := perform(s, connection)
			if found.ID = s.ID; err != nil {
				found.Fault = err.Error()
			}
			line, _ := json.Marshal(found)
			writing.Lock()
			defer writing.Unlock()
			fmt.Printf("%s\n", line)
		}(connections[s.Target])
	}
}
