// What pages keep: something asked of the gateway with its loading and its failure, and small things that last in this browser.
import { useCallback, useEffect, useRef, useState } from "../vendor/preact.js";
import { get } from "./api.js";

// { data, error, loading, again } of a GET; asked anew when the path changes, and by again(). path null: not asked.
export function useGet(path) {
  const [state, setState] = useState({ data: null, error: null, loading: true });
  const current = useRef(null);
  const again = useCallback(async () => {
    if (path === null) return;
    current.current?.abort();
    const control = (current.current = new AbortController());
    try {
      const data = await get(path, { signal: control.signal });
      if (!control.signal.aborted) setState({ data, error: null, loading: false });
    } catch (error) {
      if (error.name !== "AbortError") setState((before) => ({ ...before, error, loading: false }));
    }
  }, [path]);
  useEffect(() => {
    setState((before) => ({ ...before, loading: true }));
    again();
    return () => current.current?.abort();
  }, [again]);
  return { ...state, again };
}

// Does something and tells what went wrong: [work, { busy, error, clear }].
export function useWork(work) {
  const [state, setState] = useState({ busy: false, error: null });
  const run = async (...given) => {
    setState({ busy: true, error: null });
    try {
      const found = await work(...given);
      setState({ busy: false, error: null });
      return found;
    } catch (error) {
      setState({ busy: false, error: error.name === "AbortError" ? null : error });
      return undefined;
    }
  };
  return [run, { ...state, clear: () => setState({ busy: false, error: null }) }];
}

export function useStored(key, initial) {
  const [value, setValue] = useState(() => {
    try {
      return JSON.parse(localStorage.getItem(key)) ?? initial;
    } catch {
      return initial;
    }
  });
  const keep = (next) => {
    setValue(next);
    localStorage.setItem(key, JSON.stringify(next));
  };
  return [value, keep];
}

// A value that follows another one when that has been quiet for a moment.
export function useSettled(value, ms = 250) {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), ms);
    return () => clearTimeout(timer);
  }, [value, ms]);
  return settled;
}

// Calls work every so many ms while the page is looked at.
export function useEvery(ms, work) {
  const latest = useRef(work);
  latest.current = work;
  useEffect(() => {
    const timer = setInterval(() => document.hidden || latest.current(), ms);
    return () => clearInterval(timer);
  }, [ms]);
}

const styles = new Set();
// A page's own stylesheet, once.
export function style(path) {
  if (styles.has(path)) return;
  styles.add(path);
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = path;
  document.head.append(link);
}
