output "jobs_queue_url" {
  description = "For the queue signal in windlass.toml, and for the workers."
  value       = aws_sqs_queue.jobs.url
}

output "notices_queue_url" {
  description = "Where spot notices arrive."
  value       = aws_sqs_queue.notices.url
}

output "launch_template_id" {
  description = "For a fleet of plain instances."
  value       = aws_launch_template.worker.id
}

output "group_name" {
  description = "For a fleet in an Auto Scaling group: [fleet.NAME.asg] group."
  value       = aws_autoscaling_group.workers.name
}

output "controller_instance_id" {
  description = "For aws ssm start-session --target."
  value       = aws_instance.controller.id
}
