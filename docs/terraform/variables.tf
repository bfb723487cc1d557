variable "region" {
  description = "Where everything stands, such as eu-west-1."
  type        = string
}

variable "vpc_id" {
  description = "The network that windlass and the workers are in."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets for the workers, one per zone; windlass itself takes the first. They need a way out to the AWS APIs."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) > 0
    error_message = "Name at least one subnet."
  }
}

variable "worker_image_id" {
  description = "The image the workers boot from. It starts the worker by itself."
  type        = string
}

variable "worker_instance_type" {
  description = "What a worker runs on. Write the same type into the fleet's configuration."
  type        = string
  default     = "c7g.large"
}

variable "controller_image_id" {
  description = "The image windlass runs on: any Linux with systemd, for the architecture of controller_instance_type."
  type        = string
}

variable "controller_instance_type" {
  description = "What windlass runs on. It is one thread and one file."
  type        = string
  default     = "t4g.nano"
}

variable "policy_file" {
  description = "What windlass may do: the output of windlass iam for your windlass.toml."
  type        = string
  default     = "policy.json"
}

variable "fleet" {
  description = "The fleet's name in windlass.toml."
  type        = string
  default     = "photos"

  validation {
    condition     = can(regex("^[a-z0-9-]{1,24}$", var.fleet))
    error_message = "1 to 24 characters of a-z, 0-9 and -."
  }
}

variable "workers_max" {
  description = "The most workers the group may have. limits.max in windlass.toml should be the same."
  type        = number
  default     = 20
}

variable "alarm_topic_arns" {
  description = "SNS topics that are told when windlass is silent; none if empty."
  type        = list(string)
  default     = []
}
