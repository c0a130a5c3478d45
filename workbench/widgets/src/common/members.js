// Sets of components or samples as they travel: few as ids, many as positions in a table that both sides know.
import { array } from "./wire.js";

const FEW = 200;

// What Python sent -> ids
export function membersOf(value) {
  if (!value) return [];
  if (Array.isArray(value)) return value;
  return value.sets.flatMap(({ table, positions }) => Array.from(array(positions), table === "sample" ? Number : (i) => table + i));
}

// Ids -> what Python takes; `tables` names each table's digest, and without one the ids themselves travel.
export function packMembers(ids, tables) {
  if (ids.length <= FEW) return ids;
  const groups = new Map();
  for (const id of ids) {
    const at = typeof id === "number" ? -1 : id.lastIndexOf("/");
    const table = at < 0 ? "sample" : id.slice(0, at + 1);
    if (!tables?.[table]) return ids;
    if (!groups.has(table)) groups.set(table, []);
    groups.get(table).push(at < 0 ? id : Number(id.slice(at + 1)));
  }
  const sets = [...groups].map(([table, list]) => {
    const positions = Uint32Array.from(list);
    return { table, digest: tables[table], positions: { dtype: "uint32", shape: [list.length], data: new DataView(positions.buffer) } };
  });
  return { sets };
}
