# The jobs. windlass reads how many wait; the workers take them.
resource "aws_sqs_queue" "jobs_failed" {
  name                      = "${var.fleet}-jobs-failed"
  message_retention_seconds = 1209600
}

resource "aws_sqs_queue" "jobs" {
  name                       = "${var.fleet}-jobs"
  visibility_timeout_seconds = 300

  # A job that kills its worker must not kill every worker.
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.jobs_failed.arn
    maxReceiveCount     = 5
  })
}

# What EC2 says beforehand of spot instances: windlass reads it from here.
resource "aws_sqs_queue" "notices" {
  name = "windlass-notices"

  # A notice is worth something for two minutes. Older ones only cost calls.
  message_retention_seconds = 300
}

data "aws_iam_policy_document" "notices" {
  statement {
    sid       = "EventBridge"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.notices.arn]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [aws_cloudwatch_event_rule.notices.arn]
    }
  }
}

resource "aws_sqs_queue_policy" "notices" {
  queue_url = aws_sqs_queue.notices.id
  policy    = data.aws_iam_policy_document.notices.json
}

resource "aws_cloudwatch_event_rule" "notices" {
  name        = "windlass-notices"
  description = "Spot interruptions and rebalance recommendations, for windlass"

  event_pattern = jsonencode({
    source = ["aws.ec2"]
    "detail-type" = [
      "EC2 Spot Instance Interruption Warning",
      "EC2 Instance Rebalance Recommendation",
    ]
  })
}

resource "aws_cloudwatch_event_target" "notices" {
  rule = aws_cloudwatch_event_rule.notices.name
  arn  = aws_sqs_queue.notices.arn
}
