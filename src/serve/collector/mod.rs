//! The OTLP receiver: HTTP and gRPC in, durable telemetry out.
