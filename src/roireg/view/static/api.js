// Requests to the server. All addresses are relative to the page's, which holds the token.

export class Fault extends Error {}

async function answered(response) {
  if (response.ok) return response;
  let text = `the server answered ${response.status}`;
  try {
    text = (await response.json()).error;
  } catch {
    // It was no JSON: the status says what there is to say.
  }
  throw new Fault(text);
}

async function asked(method, path, options) {
  try {
    return await answered(await fetch(`api/${path}`, { method, ...options }));
  } catch (error) {
    if (error instanceof Fault) throw error;
    throw new Fault("the server does not answer. Is `roireg view` still running?");
  }
}

export async function call(method, path, body) {
  const json = { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return (await asked(method, path, body === undefined ? {} : json)).json();
}

// Uploads files that belong together, and returns the name of their group.
export async function upload(files) {
  const group = crypto.randomUUID();
  for (const file of files) {
    await asked("PUT", `uploads/${group}/${encodeURIComponent(file.name)}`, { body: file });
  }
  return group;
}

export async function download(path, name) {
  const blob = await (await asked("GET", path, {})).blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

export async function bytes(path) {
  return (await asked("GET", path, {})).arrayBuffer();
}

export async function picture(path) {
  return createImageBitmap(await (await asked("GET", path, {})).blob());
}
