#!/bin/sh
# Prints the alerts as an object of the Prometheus Operator: sh deploy/kubernetes/alerts.sh | kubectl apply -f -
# Its Prometheus may want a label here: see its ruleSelector.
set -eu
cat <<'END'
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: greso
  labels: {app.kubernetes.io/name: greso}
spec:
END
sed 's/^/  /' "$(dirname "$0")/../prometheus/alerts.yaml"
