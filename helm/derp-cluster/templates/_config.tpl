{{/* derpd's configuration, as YAML. What only a pod knows is filled in by derpd-address. */}}
{{- define "derp.config" -}}
{{- $ports := .Values.exposure.ports -}}
{{- $code := default .Release.Name .Values.region.code -}}
{{- $keys := "/etc/derpmesh/keys" -}}
{{- $tree := dict
  "node" (dict "name" "auto")
  "region" (dict "id" (int .Values.region.id) "code" $code "name" (default $code .Values.region.name))
  "state_dir" "/var/lib/derpd"
  "derp" (dict "listen" (list (printf ":%d" (int $ports.derp))))
  "http" (dict "enabled" false)
  "stun" (dict "listen" (list (printf ":%d" (int $ports.stun))))
  "tls" (dict "mode" "self-signed")
  "mesh" (dict "key_file" (printf "%s/mesh.key" $keys))
  "registry" (include "derp.registry" . | fromJson)
  "admin" (dict
    "listen" (list (printf ":%d" (int .Values.admin.port)))
    "socket" "/run/derpd/admin.sock"
    "token_file" (printf "%s/admin/token" $keys)
    "certificate" (printf "%s/admin/admin.crt" $keys)
    "key" (printf "%s/admin/admin.key" $keys)
    "public_metrics" .Values.metrics.podMonitor.enabled)
  "log" (dict "format" "json") -}}
{{- if include "derp.http" . -}}
{{- $_ := set $tree "http" (dict "listen" (list (printf ":%d" (int $ports.http)))) -}}
{{- end -}}
{{- if ne .Values.tls.mode "selfSigned" -}}
{{- $_ := set $tree "tls" (dict "mode" "files" "certificate" "/etc/derpmesh/tls/tls.crt" "key" "/etc/derpmesh/tls/tls.key") -}}
{{- if .Values.tls.trustSecretCA -}}
{{- $_ := set $tree.mesh "ca_file" "/etc/derpmesh/tls/ca.crt" -}}
{{- end -}}
{{- end -}}
{{- $admission := dict -}}
{{- if include "derp.hasClients" . -}}
{{- $_ := set $admission "key_file" "/etc/derpmesh/clients/clients" -}}
{{- end -}}
{{- with .Values.admission.urls }}{{ $_ := set $admission "urls" . }}{{ end -}}
{{- with .Values.admission.tailscaledSockets }}{{ $_ := set $admission "tailscaled" . }}{{ end -}}
{{- if .Values.admission.open -}}
{{- $_ := set $admission "mode" "open" -}}
{{- $_ := set $admission "i_know_this_is_public" .Values.admission.iKnowThisIsPublic -}}
{{- end -}}
{{- with $admission }}{{ $_ := set $tree "admission" . }}{{ end -}}
{{- mergeOverwrite $tree (deepCopy .Values.config) | toYaml -}}
{{- end -}}

{{/* What derpd-address does. */}}
{{- define "derp.address" -}}
{{- $host := printf "%s.%s.svc" (include "derp.nodes" .) .Release.Namespace -}}
{{- $tree := dict
  "template" "/etc/derpmesh/config/derpd.yaml.in"
  "output" "/run/derpd/derpd.yaml"
  "sources" (include "derp.sources" . | fromJsonArray)
  "admin_host" (printf "{pod}.%s" $host)
  "timeout" (int .Values.address.timeoutSeconds)
  "follow" .Values.address.follow
  "annotations" (dict "file" "/etc/podinfo/annotations" "key" .Values.address.annotation) -}}
{{- with .Values.address.hosts }}{{ $_ := set $tree "hosts" . }}{{ end -}}
{{- with .Values.address.stunServers }}{{ $_ := set $tree "stun_servers" . }}{{ end -}}
{{- if eq .Values.workload.kind "DaemonSet" -}}
{{- /* Its pods have no host names: CoreDNS knows them by their address. */ -}}
{{- $_ := set $tree "admin_host" (printf "{ip}.%s" $host) -}}
{{- end -}}
{{- if eq .Values.exposure.mode "nodePort" }}{{ $_ := set $tree "node_ports" true }}{{ end -}}
{{- toYaml $tree -}}
{{- end -}}

{{/* derpctl's own configuration, in the pods. */}}
{{- define "derp.ctl" -}}
{{- $tree := dict
  "region" (int .Values.region.id)
  "registry" (include "derp.registry" . | fromJson)
  "token_file" "/etc/derpmesh/keys/admin/token"
  "admin_ca_file" "/etc/derpmesh/keys/admin/ca.crt" -}}
{{- if and (ne .Values.tls.mode "selfSigned") .Values.tls.trustSecretCA -}}
{{- $_ := set $tree "ca_file" "/etc/derpmesh/tls/ca.crt" -}}
{{- end -}}
{{- toYaml $tree -}}
{{- end -}}

{{/* The same for the node of the pod alone, as the hook before its end needs it. */}}
{{- define "derp.ctlSelf" -}}
{{- toYaml (dict
  "region" (int .Values.region.id)
  "nodes" (list (dict "name" "self" "admin" "unix:/run/derpd/admin.sock"))) -}}
{{- end -}}
