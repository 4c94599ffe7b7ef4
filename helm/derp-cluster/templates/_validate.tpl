{{/* What a schema cannot say. Each message: key, reason; remedy. */}}
{{- define "derp.validate" -}}
{{- $v := .Values -}}
{{- if not $v.region.id -}}
{{- fail "region.id: not set; say --set region.id=900, or another of 900 to 999" -}}
{{- end -}}
{{- with lookup "v1" "ConfigMap" .Release.Namespace (include "derp.fullname" .) -}}
{{- $old := get (default dict .data) "derpd.yaml.in" | fromYaml | dig "region" "id" 0 | int -}}
{{- $new := include "derp.config" $ | fromYaml | dig "region" "id" 0 | int -}}
{{- if and $old (ne $old $new) -}}
{{- fail (printf "region.id = %d: the release is region %d, which its volumes and the maps of clients know; keep %d, or install another release" $new $old $old) -}}
{{- end -}}
{{- end -}}
{{- if not (regexMatch "^[a-z]" (include "derp.fullname" .)) -}}
{{- fail (printf "release name = %s: names of Services begin with a letter; choose another, or set fullnameOverride" .Release.Name) -}}
{{- end -}}
{{- if and (eq $v.workload.kind "DaemonSet") (include "derp.perPod" .) -}}
{{- fail (printf "exposure.mode = %s: a DaemonSet has no Service for each pod; use hostPort or hostNetwork, or workload.kind=StatefulSet" $v.exposure.mode) -}}
{{- end -}}
{{- $sources := include "derp.sources" . | fromJsonArray -}}
{{- if and (not (include "derp.perPod" .)) (or (has "loadBalancer" $sources) (has "clusterIP" $sources)) -}}
{{- fail (printf "address.sources: with exposure.mode = %s there is no Service to ask; take loadBalancer and clusterIP out" $v.exposure.mode) -}}
{{- end -}}
{{- if and (has "stun" $sources) (not $v.address.stunServers) -}}
{{- fail "address.stunServers: empty, and address.sources has stun; name HOST:PORT of a STUN server" -}}
{{- end -}}
{{- if and (not (include "derp.readsApi" . | empty)) (not $v.rbac.create) (not $v.serviceAccount.name) -}}
{{- fail "serviceAccount.name: empty, and rbac.create is false, though the address comes from the API; name an account that may read it" -}}
{{- end -}}
{{- if and (eq $v.tls.mode "files") (not $v.tls.existingSecret) -}}
{{- fail "tls.existingSecret: empty, and tls.mode is files; name a Secret with tls.crt and tls.key" -}}
{{- end -}}
{{- if eq $v.tls.mode "certManager" -}}
{{- if not $v.tls.certManager.issuerRef.name -}}
{{- fail "tls.certManager.issuerRef.name: empty, and tls.mode is certManager; name an issuer" -}}
{{- end -}}
{{- if not (include "derp.dnsNames" . | fromJsonArray) -}}
{{- fail "tls.certManager.dnsNames: empty, and address.hosts has no DNS name; name what clients dial" -}}
{{- end -}}
{{- end -}}
{{- if and $v.admission.open (not $v.admission.iKnowThisIsPublic) -}}
{{- fail "admission.open = true: an open relay carries strangers' traffic; say admission.iKnowThisIsPublic=true as well, or name clients" -}}
{{- end -}}
{{- $lists := 0 -}}
{{- if $v.admission.clients }}{{ $lists = add1 $lists }}{{ end -}}
{{- if $v.admission.existingConfigMap.name }}{{ $lists = add1 $lists }}{{ end -}}
{{- if $v.admission.existingSecret.name }}{{ $lists = add1 $lists }}{{ end -}}
{{- if gt (int $lists) 1 -}}
{{- fail "admission: clients, existingConfigMap and existingSecret are one list each, and one must count; keep one" -}}
{{- end -}}
{{- range list "mesh" "admin" -}}
{{- $part := index $v . -}}
{{- if and (not $v.secrets.generate) (not $part.existingSecret) -}}
{{- fail (printf "%s.existingSecret: empty, and secrets.generate is false; make one with derpctl key %s generate, and name it" . .) -}}
{{- end -}}
{{- end -}}
{{- if eq $v.etcd.mode "embedded" -}}
{{- if and (not $v.secrets.generate) (not $v.etcd.existingSecret) -}}
{{- fail "etcd.existingSecret: empty, and secrets.generate is false; name a Secret with ca.crt, tls.crt and tls.key" -}}
{{- end -}}
{{- with lookup "apps/v1" "StatefulSet" .Release.Namespace (include "derp.etcd" .) -}}
{{- if ne (int .spec.replicas) (int $v.etcd.replicas) -}}
{{- fail (printf "etcd.replicas = %d: the release has %d, and members neither join nor leave by that; keep %d, or take etcd.mode=external" (int $v.etcd.replicas) (int .spec.replicas) (int .spec.replicas)) -}}
{{- end -}}
{{- end -}}
{{- else -}}
{{- $external := $v.etcd.external -}}
{{- if not $external.endpoints -}}
{{- fail "etcd.external.endpoints: empty, and etcd.mode is external; name https://HOST:2379 of its members" -}}
{{- end -}}
{{- if and (or $external.caKey $external.certificateKey $external.passwordKey) (not $external.existingSecret) -}}
{{- fail "etcd.external.existingSecret: empty, though keys of it are named; name the Secret" -}}
{{- end -}}
{{- if ne (empty $external.user) (empty $external.passwordKey) -}}
{{- fail "etcd.external.user: it goes together with passwordKey; set both or neither" -}}
{{- end -}}
{{- if ne (empty $external.certificateKey) (empty $external.privateKeyKey) -}}
{{- fail "etcd.external.certificateKey: it goes together with privateKeyKey; set both or neither" -}}
{{- end -}}
{{- end -}}
{{- $taken := dict (toString (int $v.admin.port)) "admin.port" -}}
{{- range ternary (list "derp" "http") (list "derp") (not (empty (include "derp.http" .))) -}}
{{- $port := toString (int (index $v.exposure.ports .)) -}}
{{- if hasKey $taken $port -}}
{{- fail (printf "exposure.ports.%s = %s: %s is the same; give each a port of its own" . $port (index $taken $port)) -}}
{{- end -}}
{{- $_ := set $taken $port (printf "exposure.ports.%s" .) -}}
{{- end -}}
{{- range $part, $key := dict "derp" "exposure.ports.derp" "http" "exposure.ports.http" "stun" "exposure.ports.stun" "admin" "admin.port" -}}
{{- $own := index $v.config $part -}}
{{- if and (kindIs "map" $own) (hasKey $own "listen") -}}
{{- fail (printf "config.%s.listen: probes and Services would ask elsewhere; set %s" $part $key) -}}
{{- end -}}
{{- end -}}
{{- $urls := $v.admission.urls -}}
{{- with $v.config.admission }}{{ if kindIs "map" . }}{{ $urls = concat $urls (default (list) .urls) }}{{ end }}{{ end -}}
{{- range $urls -}}
{{- if regexMatch "^[^/]*//[^/?#]*@" (toString .) -}}
{{- /* What it is is not said: it would be in logs then. */ -}}
{{- fail "admission.urls: one has a password, which whoever reads ConfigMaps would read; set DERPD_ADMISSION__URLS by extraEnv, from a Secret" -}}
{{- end -}}
{{- end -}}
{{- /* Of a schema's propertyNames Helm reports the wrong place. */ -}}
{{- range $key, $labels := dict "commonLabels" $v.commonLabels "podLabels" $v.podLabels "metrics.podMonitor.labels" $v.metrics.podMonitor.labels -}}
{{- range $label, $_ := $labels -}}
{{- if regexMatch "^(app\\.kubernetes\\.io/(name|instance|component|version|managed-by)|helm\\.sh/chart)$" $label -}}
{{- fail (printf "%s: %s is the chart's own, and would be there twice; take it out" $key $label) -}}
{{- end -}}
{{- if and (ne $key "commonLabels") (hasKey $v.commonLabels $label) -}}
{{- fail (printf "%s: %s is among commonLabels, and would be there twice; take it out" $key $label) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $index, $object := .Values.extraObjects -}}
{{- $text := $object -}}
{{- if not (kindIs "string" $object) }}{{ $text = toYaml $object }}{{ end -}}
{{- if and (trim (tpl $text $)) (not (regexMatch "(?m)(^|[{,] *)\"?kind\"? *:" (tpl $text $))) -}}
{{- fail (printf "extraObjects[%d]: has no kind, so that it is no object of Kubernetes; give whole objects" $index) -}}
{{- end -}}
{{- end -}}
{{- if lt (int $v.workload.terminationGracePeriodSeconds) (add (int $v.workload.drainSeconds) 30 | int) -}}
{{- fail (printf "workload.terminationGracePeriodSeconds = %d: too short for drainSeconds = %d; give it 30 more than that" (int $v.workload.terminationGracePeriodSeconds) (int $v.workload.drainSeconds)) -}}
{{- end -}}
{{- range list "derp" "stun" -}}
{{- $ports := index $v.exposure.nodePort . -}}
{{- if and $ports (lt (len $ports) (int $v.workload.replicas)) -}}
{{- fail (printf "exposure.nodePort.%s: %d ports for %d relays; give one for each, or none" . (len $ports) (int $v.workload.replicas)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Names in the certificate of cert-manager, as JSON. */}}
{{- define "derp.dnsNames" -}}
{{- $found := .Values.tls.certManager.dnsNames -}}
{{- if not $found -}}
{{- range $_, $host := .Values.address.hosts -}}
{{- if and (not (regexMatch "^[0-9.]+$" $host)) (not (contains ":" $host)) (not (contains "," $host)) -}}
{{- $found = append $found $host -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $found | uniq | toJson -}}
{{- end -}}
