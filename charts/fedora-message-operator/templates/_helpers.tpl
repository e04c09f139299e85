{{/* The labels that manifests/base/kustomization.yaml gives its resources. */}}
{{- define "fedora-message-operator.labels" -}}
app.kubernetes.io/name: fedora-message-operator
app.kubernetes.io/part-of: fedora-message-operator
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{/* Prints the objects of a file. "set" is merged into each of them. */}}
{{- define "fedora-message-operator.objects" -}}
{{- $set := .set | default dict }}
{{- range splitList "\n---\n" (.root.Files.Get (printf "files/%s" .file)) }}
---
{{ mergeOverwrite (fromYaml .) (deepCopy $set) | toYaml }}
{{- end }}
{{- end }}

{{/* What is merged into the objects of the whole cluster, and into those of the release's namespace. */}}
{{- define "fedora-message-operator.inCluster" -}}
metadata:
  labels:
    {{- include "fedora-message-operator.labels" . | nindent 4 }}
{{- end }}
{{- define "fedora-message-operator.inNamespace" -}}
{{ include "fedora-message-operator.inCluster" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}

{{/* Prints a ClusterRole and its binding; or a Role and its binding for each of "namespaces", if there are any. */}}
{{- define "fedora-message-operator.grant" -}}
{{- $role := .role }}
{{- if .namespaces }}
{{- range .namespaces }}
{{- $of := mergeOverwrite (deepCopy $role) (dict "kind" "Role" "metadata" (dict "namespace" .)) }}
---
{{ toYaml $of }}
{{- include "fedora-message-operator.binding" (dict "root" $.root "role" $of) }}
{{- end }}
{{- else }}
---
{{ toYaml $role }}
{{- include "fedora-message-operator.binding" (dict "root" $.root "role" $role) }}
{{- end }}
{{- end }}

{{/* Prints the binding of a Role or ClusterRole to the operator. */}}
{{- define "fedora-message-operator.binding" }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .role.kind }}Binding
metadata:
  name: {{ .role.metadata.name }}
  {{- with .role.metadata.namespace }}
  namespace: {{ . }}
  {{- end }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .role.kind }}
  name: {{ .role.metadata.name }}
subjects:
  - kind: ServiceAccount
    name: fedora-message-operator
    namespace: {{ .root.Release.Namespace }}
{{- end }}

{{- define "fedora-message-operator.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* The environment variables that follow from values. */}}
{{- define "fedora-message-operator.env" -}}
{{- $env := dict
  "PROD_AMQP_URL" .Values.brokers.prodAmqpUrl
  "STG_AMQP_URL" .Values.brokers.stgAmqpUrl
  "PROD_TOPIC_PREFIX" .Values.brokers.prodTopicPrefix
  "STG_TOPIC_PREFIX" .Values.brokers.stgTopicPrefix
  "EXCHANGE" .Values.brokers.exchange
  "WATCH_NAMESPACES" (join "," .Values.watchNamespaces)
  "SCHEMA_CATALOG" (ternary "/etc/fedora-message-schemas/catalog.json" "" (ne .Values.schemas.configMap ""))
  "REQUIRE_SENDER" (ternary "true" "" .Values.requireSender)
  "CLI_IMAGE" .Values.podDelivery.image
}}
{{- if ne .Values.podDelivery.mode "direct" }}
{{- $_ := set $env "DELIVERY_MODE" .Values.podDelivery.mode }}
{{- end }}
{{- if not (kindIs "invalid" .Values.defaultTtlSecondsAfterFinished) }}
{{- $_ := set $env "DEFAULT_TTL_SECONDS_AFTER_FINISHED" (.Values.defaultTtlSecondsAfterFinished | int64 | toString) }}
{{- end }}
{{- range $name, $value := $env }}
{{- if $value }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- end }}
