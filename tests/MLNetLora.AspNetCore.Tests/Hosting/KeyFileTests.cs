using System.Diagnostics;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using MLNetLora.Tests;

namespace MLNetLora.AspNetCore.Tests.Hosting;

/// <summary>A file of keys that changes while the service runs.</summary>
public sealed class KeyFileTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly string _file;
    private readonly ManualTime _time = new();
    private readonly ServingState _state = new();
    private readonly LogLines _log = new();
    private readonly LoggerFactory _logs;
    private readonly ServingOptions _options = new();
    private ApiKeys? _keys;

    public KeyFileTests()
    {
        _file = _folder.File("keys");
        _options.ApiKeyFile = _file;
        _logs = new LoggerFactory([_log]);
        Write("# ours\none\n\n two \n");
    }

    private ApiKeys Keys => _keys ??= new ApiKeys(Options.Create(_options), _time, _state, _logs);

    public void Dispose()
    {
        _keys?.Dispose();
        _logs.Dispose();
        _folder.Dispose();
    }

    [Fact]
    public void Another_content_counts_when_two_looks_saw_it()
    {
        Assert.True(Opens("one") && Opens("two"));
        Assert.False(Opens("# ours") || Opens(""));
        Write("three\n");
        Look();
        Assert.True(Opens("one") && !Opens("three"));
        Look();
        Assert.True(Opens("three") && !Opens("one") && !Opens("two"));
        Assert.Contains("Information MLNetLora.Serving: API keys: 1 are in", _log.Text, StringComparison.Ordinal);
    }

    [Fact]
    public void A_pipe_is_no_file_of_keys_and_nobody_waits_for_it()
    {
        if (OperatingSystem.IsWindows())
        {
            return;
        }

        File.Delete(_file);
        using (Process made = Process.Start("mkfifo", _file))
        {
            made.WaitForExit();
        }

        Assert.Contains("no key", Assert.Throws<OptionException>(() => ApiKeys.Require(_file)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_file_that_is_emptied_takes_its_keys_away_and_everybody_hears_of_it()
    {
        _options.ApiKeys.Add("fixed");
        Assert.True(Opens("one") && Opens("fixed"));
        Write("# nobody any more\n");
        Look();
        Look();
        Assert.False(Opens("one") || Opens("two"));
        Assert.True(Opens("fixed") && Keys.AreNeeded);
        Assert.Contains("Error MLNetLora.Serving: API keys: There is no key in", _log.Text, StringComparison.Ordinal);
        ServingIssue issue = Assert.Single(_state.Issues);
        Assert.Equal(("API keys", false), (issue.Component, issue.IsMissing));
        Assert.Contains("revoked", issue.Reason, StringComparison.Ordinal);
        Write("four\n");
        Look();
        Look();
        Assert.True(Opens("four"));
        Assert.Empty(_state.Issues);
    }

    [Fact]
    public void One_that_is_half_written_locks_nobody_out()
    {
        Assert.True(Opens("two"));
        foreach (string half in (string[])["", "one\nt", "one\ntw"])
        {
            Write(half);
            Look();
            Assert.True(Opens("one") && Opens("two") && !Opens("t"));
        }

        Write("one\ntwo\nthree\n");
        Look();
        Look();
        Assert.True(Opens("two") && Opens("three"));
        Assert.DoesNotContain("Error", _log.Text, StringComparison.Ordinal);
    }

    [Fact]
    public void One_that_is_gone_leaves_its_keys_and_the_log_says_so_once()
    {
        Assert.True(Opens("one"));
        File.Delete(_file);
        Look();
        Look();
        Look();
        Assert.True(Opens("one"));
        Assert.Single(_log.Text.Split('\n'), line => line.Contains("cannot be read", StringComparison.Ordinal));
        Assert.Contains("empty the file", Assert.Single(_state.Issues).Reason, StringComparison.Ordinal);
        Write("one\ntwo\n");
        Look();
        Assert.Empty(_state.Issues);
        Assert.True(Opens("two"));
    }

    private void Write(string text) => File.WriteAllText(_file, text);

    private void Look() => _time.Advance(TimeSpan.FromSeconds(5));

    private bool Opens(string key)
    {
        DefaultHttpContext context = new();
        context.Request.Headers.Authorization = $"Bearer {key}";
        return Keys.Refusal(context.Request, isAdmin: false) is null;
    }
}
