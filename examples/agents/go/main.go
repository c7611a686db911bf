// A long-running agent: takes tasks and answers what others ask. Written from docs/protocol.md, part 1.
package main

//go:generate buf generate ../../..

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	pb "example.invalid/conductor-agent/gen/claude_conductor/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Every call has a deadline, and is repeated as it is after UNAVAILABLE.
const calls = `{"methodConfig": [{"name": [{"service": "claude_conductor.v1.LocalService"}], "timeout": "70s", "waitForReady": true,
	"retryPolicy": {"maxAttempts": 5, "initialBackoff": "0.5s", "maxBackoff": "5s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`

// The prompt is `answer N`: so many questions are answered, however long they take to come; the task's time-out bounds it.
func work(ctx context.Context, sidecar pb.LocalServiceClient, prompt string) (summary string, err error) {
	answered, wanted := 0, 1
	for fmt.Sscanf(prompt, "answer %d", &wanted); err == nil && answered < wanted; {
		var mail *pb.FetchResponse
		mail, err = sidecar.Fetch(ctx, &pb.FetchRequest{MaxMessages: 1, Wait: durationpb.New(60 * time.Second)})
		if len(mail.GetMessages()) == 0 {
			continue
		}
		message, said := mail.Messages[0], mail.Messages[0].Envelope
		if said.Type == "question" {
			// An id made from the question's: a process that comes after this one does not answer twice.
			id := fmt.Sprintf("msg_%x", sha256.Sum256([]byte("answer to "+said.Id)))[:36]
			answer := &pb.Envelope{Id: id, Type: "answer", CorrelationId: said.Id, Data: append([]byte("go heard: "), said.Data...)}
			_, err = sidecar.Send(ctx, &pb.SendRequest{Recipient: strings.TrimPrefix(message.Sender, "agent/"), Envelope: answer})
			answered++
			sidecar.ReportProgress(ctx, &pb.ReportProgressRequest{Text: fmt.Sprint("answered ", answered)})
		}
		if err == nil { // last: what is not acknowledged comes to the next process
			_, err = sidecar.Acknowledge(ctx, &pb.AcknowledgeRequest{Mailbox: message.Mailbox, Positions: []uint64{message.Position}})
		}
	}
	return fmt.Sprint("answered ", answered), err
}

func main() {
	socket, insecurely := "unix:"+os.Getenv("CONDUCTOR_SOCKET"), grpc.WithTransportCredentials(insecure.NewCredentials())
	connection, err := grpc.NewClient(socket, insecurely, grpc.WithDefaultServiceConfig(calls))
	for sidecar, ctx := pb.NewLocalServiceClient(connection), context.Background(); err == nil; {
		task, failed := sidecar.NextTask(ctx, &pb.NextTaskRequest{Wait: durationpb.New(30 * time.Second)})
		if status.Code(failed) == codes.DeadlineExceeded { // none came
			continue
		} else if err = failed; err != nil {
			break
		}
		end := &pb.CompleteTaskRequest{TaskId: task.TaskId}
		if end.Summary, failed = work(ctx, sidecar, task.Spec.Prompt); failed != nil {
			end.Failure = &pb.TaskFailure{Message: failed.Error()}
		}
		if _, err = sidecar.CompleteTask(ctx, end); status.Code(err) == codes.FailedPrecondition {
			err = nil // it was cancelled, or somebody else has it now
		}
	}
	log.Fatal(err)
}
