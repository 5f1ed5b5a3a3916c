namespace MLNetLora.Inference;

/// <summary>What an engine has to do at a moment, and what memory that takes.</summary>
/// <param name="Rows">Requests that are read or answered.</param>
/// <param name="Waiting">Requests that wait for a row.</param>
/// <param name="Tokens">Tokens of the rows that have keys and values.</param>
/// <param name="Bytes">Memory for their keys and values; pages of it that were never written are not there.</param>
/// <param name="ReservedBytes">What the rows may come to take with their longest answers: what <see cref="EngineOptions.MaximumCacheBytes"/> limits.</param>
/// <param name="PrefixBytes">Keys and values that are kept of prompts.</param>
internal readonly record struct EngineUse(int Rows, int Waiting, long Tokens, long Bytes, long ReservedBytes, long PrefixBytes);
