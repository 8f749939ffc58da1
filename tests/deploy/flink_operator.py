"""What the Flink operator accepts in a FlinkDeployment, beside its pod templates, which are Kubernetes' own."""

from typing import Any

_RESOURCE = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "cpu": {"type": "number"},
        "memory": {"type": "string"},
        "ephemeralStorage": {"type": "string"},
    },
}

_ROLE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["resource"],
    "properties": {
        "replicas": {"type": "integer", "minimum": 1},
        "resource": _RESOURCE,
        "podTemplate": {"type": "object"},
    },
}

SESSION_CLUSTER: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["image", "flinkVersion", "serviceAccount", "jobManager", "taskManager"],
    "properties": {
        "image": {"type": "string"},
        "imagePullPolicy": {"type": "string"},
        "flinkVersion": {"type": "string", "pattern": "^v[0-9]+_[0-9]+$"},
        "mode": {"enum": ["native", "standalone"]},
        "serviceAccount": {"type": "string"},
        "flinkConfiguration": {"type": "object", "additionalProperties": {"type": "string"}},
        "logConfiguration": {"type": "object", "additionalProperties": {"type": "string"}},
        "podTemplate": {"type": "object"},
        "restartNonce": {"type": "integer"},
        "ingress": {"type": "object"},
        "jobManager": _ROLE,
        "taskManager": _ROLE,
    },
}
"""JSON schema of `spec`, for a session cluster: one without a job. Stricter than the operator's own, which lets a
misspelled field pass in silence; the slow test asks the operator's own too."""
