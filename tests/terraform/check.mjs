// Checks the Terraform files in a folder against the provider's own schema, as
// `@cdktf/provider-aws` holds it in its type declarations: every resource and
// data source exists, every argument and block is known, and none that is
// required is missing. Syntax is checked by Terraform's own parser, compiled
// to WebAssembly (`@cdktf/hcl2json`).
//
//   node check.mjs FOLDER MODULES
//
// MODULES has hcl2json in it, and provider-aws/lib with the declarations that
// are needed; without the latter only syntax and references are checked.
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const [folder, modules] = process.argv.slice(2).map((path) => resolve(path));
const { parse } = createRequire(join(modules, "here.js"))("@cdktf/hcl2json");
const declarations = join(modules, "provider-aws", "lib");
// What Terraform itself takes in every resource.
const META = ["count", "for_each", "provider", "depends_on", "lifecycle"];
// Blocks that come from HCL's `dynamic`, whose inside is not looked at.
const DYNAMIC = "dynamic";
const problems = [];
const dashed = (name) => name.replaceAll("_", "-");

// The arguments of each interface of one declaration file, by interface:
// argument -> { required, block }.
function interfacesOf(text) {
  const found = new Map();
  const heads = /export interface (\w+)(?: extends [\w.]+)? \{\n([\s\S]*?)\n\}/g;
  for (const [, name, body] of text.matchAll(heads)) {
    const fields = new Map();
    const field = /#(\w+) \w+#\w+\}[\s\S]*?readonly (\w+)(\?)?: ([^;]+);/g;
    for (const [, argument, , optional, type] of body.matchAll(field)) {
      const block = /^([A-Z]\w+?)(\[\])?( \| cdktf\.IResolvable)?$/.exec(type);
      fields.set(argument, { required: !optional, block: block?.[1] });
    }
    found.set(name, fields);
  }
  return found;
}

function check(where, blocks, interfaces, name, given) {
  const known = interfaces.get(name);
  if (!known) return;
  for (const key of Object.keys(given)) {
    if (key === DYNAMIC || (blocks === 0 && META.includes(key))) continue;
    const field = known.get(key);
    if (!field) {
      problems.push(`${where}: there is no argument ${key}`);
    } else if (field.block && interfaces.has(field.block)) {
      for (const inner of [given[key]].flat()) {
        if (typeof inner === "object") {
          check(`${where}.${key}`, blocks + 1, interfaces, field.block, inner);
        }
      }
    }
  }
  for (const [key, field] of known) {
    if (field.required && !(key in given) && !(DYNAMIC in given)) {
      problems.push(`${where}: ${key} is required`);
    }
  }
}

function checkKind(file, kind, type, instances) {
  const data = kind === "data" ? "data-" : "";
  const place = data + dashed(type);
  const path = join(declarations, place.replace(/^(data-)?aws-/, data && "data-aws-"), "index.d.ts");
  if (!existsSync(path)) {
    problems.push(`${file}: the provider has no ${kind} ${type}`);
    return;
  }
  const interfaces = interfacesOf(readFileSync(path, "utf8"));
  const top = [...interfaces.keys()].find((name) => name.endsWith("Config"));
  for (const [label, [given]] of Object.entries(instances)) {
    check(`${file}: ${kind} ${type}.${label}`, 0, interfaces, top, given);
  }
}

// Every `aws_x.y`, `data.aws_x.y` and `var.x` that is written somewhere must
// be declared somewhere.
function checkReferences(texts, declared) {
  const mention = /(?<![\w."/:-])(data\.aws_\w+\.\w+|aws_\w+\.\w+|var\.\w+)/g;
  for (const [file, text] of texts) {
    const code = text.replace(/#.*$/gm, "");
    for (const [, name] of code.matchAll(mention)) {
      if (!declared.has(name)) problems.push(`${file}: ${name} is not declared`);
    }
    for (const [, inside] of code.matchAll(/\$\{([^}]*)\}/g)) {
      for (const [, name] of inside.matchAll(mention)) {
        if (!declared.has(name)) problems.push(`${file}: ${name} is not declared`);
      }
    }
  }
}

const files = readdirSync(folder).filter((name) => name.endsWith(".tf")).sort();
if (files.length === 0) problems.push(`${folder}: there are no .tf files`);
const texts = new Map();
const declared = new Set();
const types = [];
let resources = 0;
for (const file of files) {
  const text = readFileSync(join(folder, file), "utf8");
  texts.set(file, text);
  let parsed;
  try {
    parsed = await parse(file, text);
  } catch (error) {
    problems.push(`${file}: ${error.message ?? error}`);
    continue;
  }
  for (const name of Object.keys(parsed.variable ?? {})) declared.add(`var.${name}`);
  for (const kind of ["resource", "data"]) {
    for (const [type, instances] of Object.entries(parsed[kind] ?? {})) {
      types.push([file, kind, type, instances]);
      for (const label of Object.keys(instances)) {
        const name = `${type}.${label}`;
        const full = kind === "data" ? `data.${name}` : name;
        if (declared.has(full)) problems.push(`${file}: ${full} is declared twice`);
        declared.add(full);
        resources += 1;
      }
    }
  }
}
checkReferences(texts, declared);
if (process.argv.includes("--types")) {
  for (const [, kind, type] of types) {
    console.log((kind === "data" ? "data-" : "") + dashed(type).replace(/^aws-/, kind === "data" ? "aws-" : ""));
  }
  process.exit(0);
}
const schema = existsSync(declarations);
if (schema) for (const one of types) checkKind(...one);
for (const problem of problems) console.log(problem);
console.log(
  `terraform files: ${files.length}, resources and data sources: ${resources}, ` +
    `${schema ? "checked against the provider's schema" : "only syntax and references checked"}, ` +
    `problems: ${problems.length}`,
);
process.exit(problems.length === 0 ? 0 : 1);
