// Creates a FedoraMessage, waits until it is sent, and prints its id on the bus. It ends with 1 if the operator
// has given the message up.
//
// Like kubectl, it finds the API server and the namespace in a kubeconfig. In a Pod it uses the ServiceAccount.
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
)

var resource = schema.GroupVersionResource{
	Group: "apps.fedoraproject.org", Version: "v1alpha1", Resource: "fedoramessages",
}

// status is the part of a message's status that this program reads.
type status struct {
	MessageID  string             `json:"messageId"`
	Message    string             `json:"message"`
	Conditions []metav1.Condition `json:"conditions"`
}

func main() {
	log.SetFlags(0)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()

	messages, err := connect()
	if err != nil {
		log.Fatal(err)
	}
	name, err := create(ctx, messages, "builds.package.built", map[string]any{
		"package": "kernel",
		"build":   int64(4711),
	})
	if err != nil {
		log.Fatal(err)
	}
	id, err := waitUntilSent(ctx, messages, name)
	if err != nil {
		log.Fatalf("%s: %v", name, err)
	}
	fmt.Println(id)
}

// connect returns a client for the messages in the namespace of the kubeconfig or the Pod.
func connect() (dynamic.ResourceInterface, error) {
	config := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		clientcmd.NewDefaultClientConfigLoadingRules(), nil)
	namespace, _, err := config.Namespace()
	if err != nil {
		return nil, err
	}
	rest, err := config.ClientConfig()
	if err != nil {
		return nil, err
	}
	client, err := dynamic.NewForConfig(rest)
	if err != nil {
		return nil, err
	}
	return client.Resource(resource).Namespace(namespace), nil
}

// create creates a message of the Sender "default", and returns the name that the API server has given it.
func create(ctx context.Context, messages dynamic.ResourceInterface, topic string, body map[string]any) (string, error) {
	created, err := messages.Create(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": resource.GroupVersion().String(),
		"kind":       "FedoraMessage",
		"metadata":   map[string]any{"generateName": "package-built-"},
		"spec": map[string]any{
			"message": map[string]any{"topic": topic, "body": body},
		},
	}}, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
	if err != nil {
		return "", err
	}
	return created.GetName(), nil
}

// waitUntilSent returns the message's id once the broker has confirmed the message.
func waitUntilSent(ctx context.Context, messages dynamic.ResourceInterface, name string) (string, error) {
	var last status
	err := wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (bool, error) {
		message, err := messages.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		var current struct {
			Status status `json:"status"`
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(message.Object, &current); err != nil {
			return false, err
		}
		last = current.Status
		if meta.IsStatusConditionTrue(last.Conditions, "Stalled") {
			return false, fmt.Errorf("given up: %s", last.Message)
		}
		return meta.IsStatusConditionTrue(last.Conditions, "FedoraMessageSent"), nil
	})
	if wait.Interrupted(err) {
		return "", fmt.Errorf("not sent yet, the operator keeps trying: %s", last.Message)
	}
	return last.MessageID, err
}
