//! Evaluation results in telemetry of any application.
