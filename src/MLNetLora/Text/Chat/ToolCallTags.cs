namespace MLNetLora.Text;

/// <summary>How a chat template asks for calls of tools between <see cref="ToolCallTags.Open"/> and <see cref="ToolCallTags.Close"/>.</summary>
internal enum ToolCallForm
{
    /// <summary>As JSON: <c>{"name": …, "arguments": {…}}</c>. Qwen2.5 and Qwen3.</summary>
    Json,

    /// <summary>As <c>&lt;function=name&gt;&lt;parameter=key&gt;value&lt;/parameter&gt;&lt;/function&gt;</c>. Qwen3-Coder, and from Qwen3.5 on.</summary>
    FunctionTags,
}

/// <summary>The tags of calls.</summary>
internal static class ToolCallTags
{
    /// <summary>Begins a call.</summary>
    public const string Open = "<tool_call>";

    /// <summary>Ends it.</summary>
    public const string Close = "</tool_call>";

    /// <summary>Begins a function, whose name and &gt; follow; a template whose source holds it asks for <see cref="ToolCallForm.FunctionTags"/>.</summary>
    public const string Function = "<function=";

    /// <summary>Ends a function.</summary>
    public const string FunctionEnd = "</function>";

    /// <summary>Begins a parameter, whose name and &gt; follow.</summary>
    public const string Parameter = "<parameter=";

    /// <summary>Ends a parameter.</summary>
    public const string ParameterEnd = "</parameter>";
}
