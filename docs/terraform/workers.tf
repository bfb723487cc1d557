# What a worker is. A fleet of plain instances launches from the template
# itself; a fleet in an Auto Scaling group raises the group below.

data "aws_iam_policy_document" "worker_assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "worker" {
  statement {
    sid = "Jobs"
    actions = [
      "sqs:ChangeMessageVisibility",
      "sqs:DeleteMessage",
      "sqs:GetQueueAttributes",
      "sqs:ReceiveMessage",
    ]
    resources = [aws_sqs_queue.jobs.arn]
  }

  # Only if workers protect themselves from scale-in while they have a job
  # (workers = "protection" in the fleet's configuration).
  statement {
    sid       = "ProtectItself"
    actions   = ["autoscaling:SetInstanceProtection"]
    resources = [aws_autoscaling_group.workers.arn]
  }

  # Only if they say in a tag what they do (workers = "tags").
  statement {
    sid       = "SayWhatItDoes"
    actions   = ["ec2:CreateTags"]
    resources = ["arn:${data.aws_partition.current.partition}:ec2:${var.region}:${data.aws_caller_identity.current.account_id}:instance/*"]

    condition {
      test     = "ForAllValues:StringEquals"
      variable = "aws:TagKeys"
      values   = ["windlass:work"]
    }

    # Instances of workers, and no others.
    condition {
      test     = "ArnEquals"
      variable = "ec2:InstanceProfile"
      values   = [aws_iam_instance_profile.worker.arn]
    }
  }
}

resource "aws_iam_role" "worker" {
  name               = "windlass-worker-${var.fleet}"
  assume_role_policy = data.aws_iam_policy_document.worker_assume.json
}

resource "aws_iam_role_policy" "worker" {
  name   = "worker"
  role   = aws_iam_role.worker.id
  policy = data.aws_iam_policy_document.worker.json
}

resource "aws_iam_instance_profile" "worker" {
  name = "windlass-worker-${var.fleet}"
  role = aws_iam_role.worker.name
}

resource "aws_security_group" "worker" {
  name_prefix = "windlass-worker-"
  description = "Workers: out only"
  vpc_id      = var.vpc_id

  egress {
    description = "The AWS APIs, and whatever the jobs need"
    from_port   = 443
    to_port     = 443
    protocol    = "tcp"
    cidr_blocks = ["0.0.0.0/0"]
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_launch_template" "worker" {
  name_prefix            = "windlass-${var.fleet}-"
  image_id               = var.worker_image_id
  instance_type          = var.worker_instance_type
  vpc_security_group_ids = [aws_security_group.worker.id]
  update_default_version = true

  iam_instance_profile {
    arn = aws_iam_instance_profile.worker.arn
  }

  metadata_options {
    http_endpoint          = "enabled"
    http_tokens            = "required"
    instance_metadata_tags = "enabled"
  }

  # A worker that shuts down is gone, not stopped and still paid for.
  instance_initiated_shutdown_behavior = "terminate"
}

resource "aws_autoscaling_group" "workers" {
  name                = "windlass-${var.fleet}"
  vpc_zone_identifier = var.subnet_ids
  min_size            = 0
  max_size            = var.workers_max

  # Instances are let go by name, drained: the group must not swap a busy one
  # for another zone's sake.
  suspended_processes = ["AZRebalance"]

  # Counts from the moment an instance is in service.
  default_instance_warmup = 0

  launch_template {
    id      = aws_launch_template.worker.id
    version = "$Latest"
  }

  lifecycle {
    # windlass raises and lowers it; the tags say whose launch is under way.
    ignore_changes = [desired_capacity, tag]
  }
}
