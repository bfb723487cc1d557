# The one small instance that windlass runs on. It opens no port: reach it with
# Session Manager.

resource "aws_iam_role" "controller" {
  name               = "windlass"
  assume_role_policy = data.aws_iam_policy_document.worker_assume.json
}

resource "aws_iam_role_policy" "controller" {
  name = "windlass"
  role = aws_iam_role.controller.id
  # What windlass itself says that its configuration needs, and nothing else:
  # windlass iam --config windlass.toml --account ID > policy.json
  policy = file(var.policy_file)
}

resource "aws_iam_role_policy_attachment" "controller_session" {
  role       = aws_iam_role.controller.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/AmazonSSMManagedInstanceCore"
}

resource "aws_iam_instance_profile" "controller" {
  name = "windlass"
  role = aws_iam_role.controller.name
}

resource "aws_security_group" "controller" {
  name_prefix = "windlass-"
  description = "windlass: out only"
  vpc_id      = var.vpc_id

  egress {
    description = "The AWS APIs"
    from_port   = 443
    to_port     = 443
    protocol    = "tcp"
    cidr_blocks = ["0.0.0.0/0"]
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_instance" "controller" {
  ami                    = var.controller_image_id
  instance_type          = var.controller_instance_type
  subnet_id              = var.subnet_ids[0]
  vpc_security_group_ids = [aws_security_group.controller.id]
  iam_instance_profile   = aws_iam_instance_profile.controller.name

  # Never in the fleet that it controls, and not ended by mistake.
  disable_api_termination = true

  metadata_options {
    http_endpoint = "enabled"
    http_tokens   = "required"
  }

  # The store is small; keep it when the instance goes.
  root_block_device {
    volume_size           = 10
    volume_type           = "gp3"
    encrypted             = true
    delete_on_termination = false
  }

  tags = {
    Name = "windlass"
  }
}

# EC2 moves or restarts the instance when its host fails.
resource "aws_cloudwatch_metric_alarm" "controller" {
  alarm_name          = "windlass-host-failed"
  alarm_description   = "The host of windlass has failed; EC2 moves it"
  namespace           = "AWS/EC2"
  metric_name         = "StatusCheckFailed_System"
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 60
  evaluation_periods  = 2

  dimensions = {
    InstanceId = aws_instance.controller.id
  }

  alarm_actions = concat(
    ["arn:${data.aws_partition.current.partition}:automate:${var.region}:ec2:recover"],
    var.alarm_topic_arns,
  )
}
